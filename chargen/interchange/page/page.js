"use strict";
// What people see and press; the model runs in a worker.

const find = (id) => document.getElementById(id);
const description = JSON.parse(find("description").textContent);
const ENDS = { length: "", stop: "; stopped", end: "; the model ended the text here" };
let written, bits; // of the text that the model writes

function showStatus(text) { find("status").textContent = text; }

function setWriting(writing) {
  find("stop").disabled = !writing;
  find("write").disabled = find("another").disabled = writing;
}

function settings() {
  const number = (id, low, high, other) => {
    const value = Math.min(Math.max(find(id).valueAsNumber, low), high);
    if (Number.isNaN(value)) return other;
    find(id).value = value;
    return value;
  };
  return {
    prompt: find("prompt").value,
    temperature: number("temperature", 0, 2, 0.8),
    topK: Math.round(number("top-k", 1, 1e6, Infinity)),
    length: Math.round(number("length", 0, 20000, 500)),
    seed: Math.round(number("seed", 0, 2 ** 32 - 1, 0)),
  };
}

function begin() {
  written = bits = 0;
  find("text").replaceChildren();
  find("unknown").textContent = "";
  find("reading").textContent = "Point at a character, or tap it.";
  setWriting(true);
  showStatus("reading");
  worker.postMessage(settings());
}

function show([character, surprise, isWritten]) {
  const span = document.createElement("span");
  const step = description.steps.findIndex((end) => surprise < end);
  span.className = `s${step < 0 ? description.steps.length : step}`;
  if (!isWritten) span.classList.add("prompt");
  if (character === "\n") span.classList.add("newline");
  span.textContent = character;
  span.dataset.bits = surprise;
  written += isWritten;
  bits += isWritten ? surprise : 0;
  return span;
}

function end(ended, seconds) {
  setWriting(false);
  const count = written.toLocaleString("en");
  const rate = seconds ? `, ${Math.round(written / seconds).toLocaleString("en")} a second` : "";
  const mean = written ? `, ${(bits / written).toFixed(2)} bits each` : "";
  showStatus(`${count} characters written${rate}${mean}${ENDS[ended]}`);
}

function receive({ data }) {
  if (data.ready) {
    setWriting(false);
    showStatus("ready");
  }
  if (data.unknown?.length) {
    const names = data.unknown.slice(0, 20).map((letter) => JSON.stringify(letter)).join(", ");
    find("unknown").textContent = `The model has never seen ${names}: read as one unknown character.`;
  }
  if (data.batch) {
    find("text").append(...data.batch.map(show));
    showStatus(`${written.toLocaleString("en")} characters written`);
  }
  if (data.ended) end(data.ended, data.seconds);
}

function inspect({ target }) {
  if (target.dataset.bits === undefined) return;
  document.querySelector(".chosen")?.classList.remove("chosen");
  target.classList.add("chosen");
  const surprise = Number(target.dataset.bits);
  const chance = 100 * 2 ** -surprise;
  const shown = chance > 99.9 && chance < 100 ? "over 99.9" : chance.toPrecision(3);
  const name = JSON.stringify(target.textContent);
  find("reading").textContent = `${name}: ${surprise.toFixed(2)} bits, a chance of ${shown} %`;
}

find("write").onclick = begin;
find("another").onclick = () => {
  find("seed").value = (find("seed").valueAsNumber || 0) + 1;
  begin();
};
find("stop").onclick = () => worker.postMessage({ stop: true });
find("temperature").oninput = () => {
  find("temperature-shown").textContent = find("temperature").value;
};
find("surprise").onchange = () => find("text").classList.toggle("plain", !find("surprise").checked);
find("text").onpointerover = find("text").onclick = inspect;

const source = new Blob([find("worker").textContent], { type: "text/javascript" });
const worker = new Worker(URL.createObjectURL(source));
worker.onmessage = receive;
worker.onerror = (error) => showStatus(`The model cannot run in this browser: ${error.message}`);
worker.postMessage({ description, weights: find("weights").textContent });
find("weights").remove();
