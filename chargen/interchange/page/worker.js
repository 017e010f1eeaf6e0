"use strict";
// A recurrent language model in typed arrays, one symbol at a time. It knows nothing of the page:
// weights and settings come in as messages, characters with their bits go out.

// Sums and products round alike in every browser, Math.exp need not: a seed gives one text.
const POWERS = new Float64Array(2048); // of two, exact
for (let power = 1, i = 1024; i < 2048; i++, power *= 2) POWERS[i] = power;
for (let power = 1, i = 1024; i >= 0; i--, power /= 2) POWERS[i] = power;

function exp(x) {
  x = x < -700 ? -700 : x > 700 ? 700 : x;
  const power = Math.round(x * 1.4426950408889634);
  const rest = x - power * 0.6931471805599453; // at most log(2) / 2
  let sum = 1;
  for (let n = 13; n > 0; n--) sum = 1 + (sum * rest) / n;
  return sum * POWERS[1024 + power];
}

const sigmoid = (x) => 1 / (1 + exp(-x));
const tanh = (x) => 1 - 2 / (1 + exp(2 * x));

// out = matrix x + bias; four rows at a time, the last one again where they are not that many.
function affine(out, matrix, bias, x) {
  const width = x.length, last = out.length - 1;
  for (let j = 0; j <= last; j += 4) {
    const k = Math.min(j + 1, last), l = Math.min(j + 2, last), m = Math.min(j + 3, last);
    const p = j * width, q = k * width, r = l * width, s = m * width;
    let a = bias[j], b = bias[k], c = bias[l], d = bias[m];
    for (let i = 0; i < width; i++) {
      const value = x[i];
      a += matrix[p + i] * value;
      b += matrix[q + i] * value;
      c += matrix[r + i] * value;
      d += matrix[s + i] * value;
    }
    out[j] = a;
    out[k] = b;
    out[l] = c;
    out[m] = d;
  }
  return out;
}

// Each cell turns the gates of input and state into the new state h (and c), in torch's order.
const CELLS = {
  lstm(x, y, h, c) { // input, forget, candidate, output
    const n = h.length;
    for (let i = 0; i < n; i++) {
      const candidate = tanh(x[2 * n + i] + y[2 * n + i]);
      c[i] = sigmoid(x[n + i] + y[n + i]) * c[i] + sigmoid(x[i] + y[i]) * candidate;
      h[i] = sigmoid(x[3 * n + i] + y[3 * n + i]) * tanh(c[i]);
    }
  },
  gru(x, y, h) { // reset, update, new
    const n = h.length;
    for (let i = 0; i < n; i++) {
      const reset = sigmoid(x[i] + y[i]), update = sigmoid(x[n + i] + y[n + i]);
      h[i] = (1 - update) * tanh(x[2 * n + i] + reset * y[2 * n + i]) + update * h[i];
    }
  },
  rnn(x, y, h) {
    for (let i = 0; i < h.length; i++) h[i] = tanh(x[i] + y[i]);
  },
};

// Weights by name from base64, each float32 or float16.
function unpacked(names, base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)).buffer;
  const halves = Float32Array.from({ length: 65536 }, (_, bits) => {
    const exponent = (bits >> 10) & 31, fraction = (bits & 1023) / 1024;
    const size = exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction;
    return bits >> 15 ? -size : size;
  });
  let offset = 0;
  return Object.fromEntries(names.map(([name, size, half]) => {
    const part = bytes.slice(offset, (offset += size * (half ? 2 : 4)));
    return [name, half ? Float32Array.from(new Uint16Array(part), (bits) => halves[bits]) : new Float32Array(part)];
  }));
}

class Network {
  constructor({ cell, num_layers, hidden_size, tied, symbols }, tensors, prefix) {
    const linear = (weight, bias) => ({
      weight: tensors[prefix + weight],
      bias: tensors[prefix + bias],
      out: new Float32Array(tensors[prefix + bias].length),
    });
    this.cell = CELLS[cell];
    this.embedding = tensors[prefix + "embedding.weight"];
    this.width = this.embedding.length / symbols.length;
    this.layers = Array.from({ length: num_layers }, (_, i) => ({
      input: linear(`layers.${i}.weight_ih_l0`, `layers.${i}.bias_ih_l0`),
      state: linear(`layers.${i}.weight_hh_l0`, `layers.${i}.bias_hh_l0`),
      h: new Float32Array(hidden_size),
      c: new Float32Array(hidden_size),
    }));
    this.readout = [linear(tied ? "embedding.weight" : "output.weight", "output.bias")];
    if (tied) this.readout.unshift(linear("projection.weight", "projection.bias"));
  }

  start() {
    for (const layer of this.layers) { layer.h.fill(0); layer.c.fill(0); }
  }

  // Reads a symbol; returns the logits of the next, valid until the next step.
  step(id) {
    const run = ({ weight, bias, out }, x) => affine(out, weight, bias, x);
    let x = this.embedding.subarray(id * this.width, (id + 1) * this.width);
    for (const layer of this.layers) {
      this.cell(run(layer.input, x), run(layer.state, layer.h), layer.h, layer.c);
      x = layer.h;
    }
    for (const part of this.readout) x = run(part, x);
    return x;
  }
}

class Model {
  constructor(description, base64) {
    Object.assign(this, description);
    const tensors = unpacked(description.tensors, base64);
    const count = description.networks; // more than one: an ensemble, whose logits are averaged
    this.networks = Array.from({ length: count }, (_, i) =>
      new Network(description, tensors, count > 1 ? `networks.${i}.` : ""));
    this.mean = new Float32Array(this.symbols.length);
    // Which ids may come next: by state of UTF-8 for bytes, else always the same.
    const drawn = (id) => this.symbols[id] !== null || id === this.separator_id;
    const ids = [...this.symbols.keys()].filter(drawn); // nor what is unknown, nor labels
    this.allowed = this.utf8
      ? this.utf8.map((row, state) => ids.filter((id) => (id < 256 ? row[id] >= 0 : state === 0)))
      : [ids];
  }

  // The logits of what comes first.
  start() {
    for (const network of this.networks) network.start();
    return this.step(this.start_id);
  }

  // Reads a symbol; returns the logits of the next, valid until the next step.
  step(id) {
    if (this.networks.length === 1) return this.networks[0].step(id);
    this.mean.fill(0);
    for (const network of this.networks) {
      const logits = network.step(id);
      for (let i = 0; i < logits.length; i++) this.mean[i] += logits[i] / this.networks.length;
    }
    return this.mean;
  }

  // Ids of a prompt, and the characters in it that the model has never seen.
  encode(text) {
    if (this.utf8) return [[...new TextEncoder().encode(text)], []];
    const known = new Map(this.symbols.map((symbol, id) => [symbol, id]));
    const letters = [...text];
    const unknown = [...new Set(letters.filter((letter) => !known.has(letter)))];
    return [letters.map((letter) => known.get(letter) ?? this.unknown_id), unknown];
  }
}

function bits(logits, id) {
  let most = -Infinity, sum = 0;
  for (const logit of logits) most = Math.max(most, logit);
  for (const logit of logits) sum += exp(logit - most);
  return (Math.log(sum) + most - logits[id]) / Math.LN2;
}

function draw(logits, ids, { temperature, topK }, random) {
  const count = temperature > 0 ? topK : 1;
  if (count < ids.length) {
    ids = ids.slice().sort((a, b) => logits[b] - logits[a] || a - b).slice(0, count);
  }
  const most = ids.reduce((largest, id) => Math.max(largest, logits[id]), -Infinity);
  const weights = ids.map((id) => exp((logits[id] - most) / (temperature || 1)));
  let left = random() * weights.reduce((sum, weight) => sum + weight, 0);
  const index = weights.findIndex((weight) => (left -= weight) < 0);
  return ids[index < 0 ? ids.length - 1 : index];
}

// mulberry32: uniform numbers in [0, 1) of 32 bits.
function generator(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), seed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const UTF8 = new TextDecoder("utf-8", { ignoreBOM: true }); // U+FEFF is a character like any other

// Yields [character, bits, whether it was written] for each character of the prompt and after it,
// and null inside a character of several bytes. Returns why it ended.
function* characters(model, prompt, settings) {
  const random = generator(settings.seed);
  let logits = model.start(), bytes = [], state = 0, sum = 0, written = 0;
  for (let i = 0; ; i++) {
    const reading = i < prompt.length;
    if (!reading && written >= settings.length) return "length";
    const id = reading ? prompt[i] : draw(logits, model.allowed[state], settings, random);
    if (id === model.separator_id) return "end";
    sum += bits(logits, id);
    if (model.utf8) {
      state = Math.max(model.utf8[state][id], 0);
      bytes.push(id);
    }
    if (state === 0) {
      const character = model.utf8 ? UTF8.decode(new Uint8Array(bytes)) : model.symbols[id];
      yield [character ?? settings.letters[i], sum, !reading];
      written += !reading;
      bytes = [];
      sum = 0;
    } else yield null;
    logits = model.step(id);
  }
}

let model, current = 0;

async function write(settings) {
  const number = ++current;
  const text = model.normalize ? settings.prompt.normalize(model.normalize) : settings.prompt;
  const [prompt, unknown] = model.encode(text);
  settings.letters = [...text];
  postMessage({ unknown });
  const source = characters(model, prompt, settings);
  let batch = [], postedAt = performance.now(), startedAt = postedAt;
  for (;;) {
    const { value, done } = source.next();
    if (value && !done && batch.push(value) && !value[2]) startedAt = performance.now();
    if (!done && performance.now() - postedAt < 50) continue;
    if (batch.length) postMessage({ batch });
    if (done) return postMessage({ ended: value, seconds: (performance.now() - startedAt) / 1000 });
    batch = [];
    await new Promise((go) => setTimeout(go)); // to hear of a stop
    if (number !== current) return;
    postedAt = performance.now();
  }
}

onmessage = ({ data }) => {
  if (data.weights) {
    model = new Model(data.description, data.weights);
    postMessage({ ready: true });
  } else if (data.stop) {
    current++; // the text that is being written ends
    postMessage({ ended: "stop" });
  } else write(data);
};
