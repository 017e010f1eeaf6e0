"""Untrusted checkpoints: each one loads, or is refused in one sentence.

    python benchmarks/fuzz_checkpoints.py --cases 100000

Each case takes a small checkpoint of one kind, damages one of its files in one of the ways below,
repairs the sizes and hashes of the manifest if the damage is meant to get past it, and loads the
result. A case passes if it ends in a `CheckpointError` that names the checkpoint, or in a model
that works: it writes five characters and scores a text, or classifies one, with finite numbers; an
interrupted run (every fiftieth case) continues to its end. A refusal is one printable line of less
than a thousand characters that names the checkpoint, within a second of processor time and 100 MB
of memory (checked on Linux, which reports the peak of a case). Everything else is a failure, shown
with its seed, and the exit code is 1.

Prints the cases of each kind of damage and how they ended, the slowest and the largest case, and by
how much the process grew over all of them.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import os
import random
import resource
import shutil
import struct
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from long_form import run_and_report

import chargen
from chargen.errors import ChargenError, CheckpointError
from chargen.language_model import LanguageModel
from chargen.lm import storage
from chargen.lm.config import ModelConfig
from chargen.lm.model import CharLM
from chargen.sentiment import members as ngrams
from chargen.sentiment import storage as classifier_storage
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.config import NetworkConfig
from chargen.sentiment.members import NetworkMember
from chargen.sentiment.network import ClassifierNetwork
from chargen.storage import checkpoint
from chargen.storage.checkpoint import MANIFEST
from chargen.text.vocabulary import ByteVocabulary, CharVocabulary, Vocabulary

Files = dict[str, bytes]
Special = Callable[[Path], None]
Damage = Callable[[random.Random, Files], Files]

MOST_SECONDS, MOST_MEGABYTES = 1.0, 100.0
"""Limits for one case."""

SMALL_NGRAMS = 6
"""Replaces `ngrams.BUCKET_BITS`, with which each case would read megabytes."""

VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 7, 1.5, -0.0, 1e308, 10**9, 10**18, 10**40, -(10**400)),
    *("", "x", "lstm", "x" * 5000, "\ud800", "\u202e\x1b[31m", "../../etc", "a\nb"),
    *([], [[]], [1, 2, 3], {}, {"": {}}, {"a": [None]}, [0] * 1000),
    *(math.nan, math.inf, -math.inf),
]

TEXTS = [
    *(b"", b"{", b"[]", b"null", b"3", b"\xff\xfe", b"\xef\xbb\xbf{}", b"NaN", b'{"a":1}{"b":2}'),
    *(
        b"[" * 900 + b"]" * 900,
        b"[" * 50_000,
        b'{"a":' * 50_000,
        b"9" * 6000,
        b'"' + b"\\u0000" * 99 + b'"',
        b"\x00" * 64,
    ),
]

NAMES = [
    *("../out.json", "training/../../out.json", "/etc/passwd.json", "a/b/c.json", "..\\out.json"),
    *("", ".", "..", "model.pt", "model.pkl", "a\0.json", "a\n.json", "\u202egnp.json", ".json"),
    *("x" * 300 + ".json", "CON.json", "a//b.json", "./config.json", "config.json/", "\ud800.json"),
]

DTYPES = [
    *(torch.int64, torch.int32, torch.uint8, torch.bool, torch.float16, torch.bfloat16),
    *(torch.float64, torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2),
]


# ---------------------------------------------------------------- intact checkpoints


def language_model(vocabulary: Vocabulary, **options: Any) -> checkpoint.Checkpoint:
    """Return a small untrained model."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 4, "embedding_size": 3, "num_layers": 1}
    rates = {"dropout": 0.0, "embedding_dropout": 0.0, "weight_dropout": 0.0}
    config = ModelConfig(**{"vocabulary_size": vocabulary.size, **sizes, **rates, **options})
    return storage.pack(config, CharLM(config).state_dict(), vocabulary)


def classifier() -> checkpoint.Checkpoint:
    """Return a small classifier with two encoders and n-grams."""
    vocabularies = [CharVocabulary("\n abcdefgh"), ByteVocabulary()]
    encoders = [storage.unpack(language_model(v))[0] for v in vocabularies]
    network = ClassifierNetwork(encoders, NetworkConfig(num_classes=2, detectors=2, head_size=3))
    generator = np.random.default_rng(0)
    counts = [
        kind(
            generator.random((2, 1 << ngrams.BUCKET_BITS), np.float32),
            generator.random(2, np.float32),
            generator.random(1 << ngrams.BUCKET_BITS, np.float32) if kind.has_idf else None,
        )
        for kind in ngrams.MODELS
    ]
    members = [NetworkMember(network, vocabularies), *counts]
    return classifier_storage.pack(members, ("bad", "good"), None, torch.zeros(2))


def use_language_model(directory: Path) -> None:
    """Load a language model, sample from it and score a text."""
    lm = LanguageModel.load(directory)
    sample = lm.sample(max_chars=5, seed=1)[0]
    assert all(math.isfinite(value) for value in sample.log_probs), "log-probabilities"
    assert not math.isnan(lm.score("a bad day").nats_per_char), "score"


def use_classifier(directory: Path) -> None:
    """Load a classifier and classify a text."""
    probabilities = Classifier.load(directory).predict_proba(["a bad day"])
    assert np.isfinite(probabilities).all(), "probabilities"


def interrupted_run(folder: Path) -> checkpoint.Checkpoint:
    """Return a run of eight steps of which four are done."""
    text = folder / "text.txt"
    text.write_text("the cat sat on the mat.\n" * 40)
    sizes = {"hidden_size": 4, "embedding_size": 3, "batch_size": 2, "window": 8}
    once: dict[str, Any] = {"samples": False, "eval_every": 4, "precision": "float32", "ema": 0.9}
    chargen.train(text, folder / "started", steps=4, **sizes, **once)
    stored = checkpoint.load(folder / "started", training=True)
    stored.documents["config"]["train"]["steps"] = 8
    return stored


def use_run(directory: Path) -> None:
    """Resume a run to its end, and use its model."""
    chargen.resume(directory)
    use_language_model(directory)


def bases(folder: Path) -> list[tuple[str, checkpoint.Checkpoint, Callable[[Path], None]]]:
    """Return the names of the intact checkpoints, their contents, and functions that use them."""
    chars = CharVocabulary("\n abcdefgh", documents=True)
    two = {"num_layers": 2, "tied": True, "cell": "gru"}
    return [
        ("characters", language_model(chars), use_language_model),
        ("bytes", language_model(ByteVocabulary(), **two), use_language_model),
        ("classifier", classifier(), use_classifier),
        ("run", interrupted_run(folder), use_run),
    ]


# ---------------------------------------------------------------- damage


def repaired(files: Files) -> Files:
    """Return the files with a manifest that states their sizes and hashes."""
    manifest = json.loads(files[MANIFEST])
    manifest["files"] = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in files.items()
        if name != MANIFEST
    }
    return files | {MANIFEST: json.dumps(manifest).encode()}


def with_file(files: Files, name: str, data: bytes) -> Files:
    """Return the files with a new content of one, which the manifest states if it is another."""
    changed = files | {name: data}
    return changed if name == MANIFEST else repaired(changed)


def pick(chance: random.Random, files: Files, suffix: str = "") -> str:
    return chance.choice(sorted(name for name in files if name.endswith(suffix)))


def damaged_bytes(chance: random.Random, data: bytes) -> bytes:
    """Flip some bits, cut off the end, insert random bytes, or repeat a part."""
    position = chance.randrange(len(data) + 1)
    end = min(len(data), position + chance.randrange(1, 64))
    way = chance.randrange(4)
    if way == 0:
        changed = bytearray(data or b"x")
        for _ in range(chance.randrange(1, 5)):
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        return bytes(changed)
    if way == 1:
        return data[:position]
    if way == 2:
        return data[:position] + chance.randbytes(end - position) + data[position:]
    return data[:position] + data[position:end] * 2 + data[end:]


def bytes_changed(chance: random.Random, files: Files) -> Files:
    name = pick(chance, files)
    return files | {name: damaged_bytes(chance, files[name])}


def bytes_changed_hash_right(chance: random.Random, files: Files) -> Files:
    name = pick(chance, {k: v for k, v in files.items() if k != MANIFEST})
    return with_file(files, name, damaged_bytes(chance, files[name]))


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every (container, key) in a JSON value."""
    pairs: list[tuple[Any, Any]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        pairs.append((value, key))
        if isinstance(inner, (dict, list)):
            pairs += places(inner)
    return pairs


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def json_changed(chance: random.Random, files: Files) -> Files:
    """Change the type or size of a value; remove a field, add one, or repeat one."""
    name = pick(chance, files, ".json")
    document = json.loads(files[name])
    container, key = chance.choice(places(document))
    way = chance.randrange(5)
    if way == 0 and isinstance(container, dict):
        del container[key]
    elif way == 1 and isinstance(container, dict):
        container[chance.choice(["extra", "", "hidden_sizes", key + "x"])] = chance.choice(VALUES)
    else:
        container[key] = copy.deepcopy(chance.choice(VALUES))
    data = _dump(document)
    if way == 2:  # the same field again
        field = json.dumps(str(key)).encode() + b":" + _dump(chance.choice(VALUES))
        data = data.replace(b"{", b"{" + field + b",", 1)
    return with_file(files, name, data)


def json_replaced(chance: random.Random, files: Files) -> Files:
    name = pick(chance, files, ".json")
    return with_file(files, name, chance.choice([*TEXTS, *map(_dump, VALUES)]))


def header_changed(chance: random.Random, files: Files) -> Files:
    """Change a safetensors header: types, shapes, offsets, or its own length."""
    name = pick(chance, files, ".safetensors")
    header, body = split_header(files[name])
    entry = header[chance.choice(sorted(k for k in header if k != "__metadata__"))]
    way = chance.randrange(7)
    if way == 0:
        entry["dtype"] = chance.choice(["F64", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "F99", 3])
    elif way == 1:
        entry["shape"] = chance.choice([[], [0], [2**62], [2**40, 2**40], [-1], "x", [1.5], [4, 4]])
    elif way == 2:
        ends = [[0, 2**63], [0, 0], [5, 1], [-4, 0], [0, len(body) + 8], "x", [0], [1, 2, 3]]
        entry["data_offsets"] = chance.choice(ends)
    elif way == 3:
        header["__metadata__"] = chance.choice([{"a": "b"}, {"a": 1}, [], "x", {"a" * 10**5: "b"}])
    elif way == 4:
        header["again"] = dict(entry)  # two tensors at the same offsets
    elif way == 5:
        body = body[: chance.randrange(len(body))]
    text = json.dumps(header).encode()
    size = chance.choice([0, 1, len(text) - 1, 2**31, 2**60, 2**64 - 1]) if way == 6 else len(text)
    return with_file(files, name, struct.pack("<Q", size) + text + body)


def tensors_changed(chance: random.Random, files: Files) -> Files:
    """Change the name, shape, type or values of a tensor."""
    name = pick(chance, files, ".safetensors")
    tensors = safetensors.torch.load(files[name])
    key = chance.choice(sorted(tensors))
    value = tensors[key].float().clone()
    way = chance.randrange(7)
    if way == 0:
        tensors[key] = value.float().to(chance.choice(DTYPES))
    elif way == 1:
        odd = chance.choice([math.nan, math.inf, -math.inf, 3e38, -3e38, 0.0, -1.0])
        value.view(-1)[chance.randrange(value.numel())] = odd
        tensors[key] = value
    elif way == 2:
        tensors[key] = value.fill_(chance.choice([0.0, 1e38, -1e38, 1e-45]))
    elif way == 3:
        shapes: list[tuple[int, ...]] = [(), (0,), (1,), (7,), (*value.shape, 1), value.shape[:-1]]
        tensors[key] = torch.zeros(chance.choice(shapes))
    elif way == 4:
        del tensors[key]
    elif way == 5:
        extra = ["extra", key + ".x", "", "\u202e", "a" * 5000, "../x"]
        tensors[chance.choice(extra)] = value
    else:
        tensors[key + "x"] = tensors.pop(key)
    return with_file(files, name, safetensors.torch.save(tensors))


def names_changed(chance: random.Random, files: Files) -> Files:
    """Change names in the manifest to other paths, and sizes and hashes to wrong values."""
    manifest = json.loads(files[MANIFEST])
    entry = manifest["files"].pop(pick(chance, manifest["files"]))
    if chance.random() < 0.3:
        entry["bytes"] = chance.choice([-1, 0, 10**18, 10**40, 1.5, "7", None, True])
    if chance.random() < 0.3:
        entry["sha256"] = chance.choice(["", "0" * 64, None, 7, []])
    manifest["files"][chance.choice([*NAMES, *files])] = entry
    return files | {MANIFEST: _dump(manifest)}


def vocabulary_changed(chance: random.Random, files: Files) -> Files:
    """Change the characters: repeated, unsorted, invalid, control codes, or very many."""
    name = chance.choice(sorted(name for name in files if name.startswith("vocabulary")))
    document = json.loads(files[name])
    characters = list(document.get("characters", ""))
    odd = ["\ud800", "\udfff", "\x00", "\x1b", "\x07", "\u202e", "\u2066", "\ufeff", "\U0010ffff"]
    way = chance.randrange(6)
    if way == 0:
        characters += chance.choices(odd, k=chance.randrange(1, 4))
    elif way == 1 and characters:  # as many characters, in order: it may load
        characters[chance.randrange(len(characters))] = chance.choice(odd)
        characters = sorted(characters)
    elif way == 2:
        chance.shuffle(characters)
    elif way == 3:
        characters += characters[:1] * chance.choice([1, 1000])
    elif way == 4:
        characters = list(map(chr, range(32, chance.choice([33, 500, 50_000]))))
    else:
        document["start"] = chance.choice(["", "zz", "\ud800", None, 3, "ß"])
    document["characters"] = "".join(characters)
    return with_file(files, name, _dump(document))


def split_header(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header and the body of a safetensors file."""
    end = 8 + struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:end]), data[end:]


def header_of(entries: dict[str, Any], body: bytes = b"") -> bytes:
    """Return a safetensors file with an arbitrary header."""
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + body


def special_file(chance: random.Random, files: Files) -> Files:
    """Replace a file by a link, a pipe, a folder, a device, or nothing."""
    name = pick(chance, files)
    makers: list[Special] = [
        os.mkfifo,
        Path.mkdir,
        lambda path: path.symlink_to(path.name),
        lambda path: path.symlink_to(chance.choice(["/dev/zero", "/etc/passwd", "/", "nothing"])),
        lambda path: path.symlink_to(f"../sound/{name}"),
        lambda path: None,
    ]
    return files | {name: chance.choice(makers)}  # type: ignore[dict-item]


def unfolding(chance: random.Random, files: Files) -> Files:
    """Write a file that takes many times its own size or time to read."""
    name = pick(chance, files, ".json")
    characters = "".join(map(chr, [*range(32, 0xD800), *range(0xE000, 10**6)]))
    ways: dict[str, bytes | dict[str, Any] | str] = {
        "extra.json": b"[" + b"[]," * 2_000_000 + b"0]",
        "numbers.json": b"[" + b"1.5," * 1_900_000 + b"0]",
        name: b'{"model":' * chance.choice([300, 900]) + b"1" + b"}" * 900,
        "config.json": chance.choice(["x" * 4_000_000, "[" * 900 + "]" * 900, "1" * 4000]),
        "vocabulary.json": {"characters": characters + chance.choice(["", "a", " "])},
        "model.safetensors": header_of(
            {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(50_000)}
        ),
    }
    target = chance.choice(list(ways))
    value = ways[target]
    if isinstance(value, bytes):
        return with_file(files, target, value)
    if isinstance(value, str):  # replaces the name of a field, or its value
        return with_file(files, target, files[target].replace(b'"tied"', _dump(value), 1))
    target = chance.choice(sorted(n for n in files if n.startswith("vocabulary")))
    return with_file(files, target, _dump(json.loads(files[target]) | value))


def odd_tensors(chance: random.Random, files: Files) -> Files:
    """Add a tensor of a type and shape that safetensors allows and torch may not."""
    name = pick(chance, files, ".safetensors")
    bits = {"F4": 4, "F6_E2M3": 6, "F8_E8M0": 8, "C64": 64, "U16": 16, "U64": 64, "F64": 64}
    dtype, count = chance.choice(sorted(bits)), chance.choice([0, 8, 16])
    shapes = [[count], [1] * chance.choice([20, 2000]) + [count]]
    if not count:
        shapes += [[0, 2**63], [0, 2**64 - 1], [0, 2**62], [2**40, 0, 2**40], [0] * 70]
    shape = chance.choice(shapes)
    size = count * bits[dtype] // 8
    tensors = safetensors.torch.load(files[name])
    key = chance.choice(sorted(tensors))
    del tensors[key]
    header, body = split_header(safetensors.torch.save(tensors))
    header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + size]}
    return with_file(files, name, header_of(header, body + bytes(size)))


def aliases(chance: random.Random, files: Files) -> Files:
    """List one file under many names."""
    manifest = json.loads(files[MANIFEST])
    name = pick(chance, manifest["files"])
    for number in range(1, chance.choice([2, 50])):
        manifest["files"]["./" * number + name] = manifest["files"][name]
    return files | {MANIFEST: _dump(manifest)}


def sizes_declared(chance: random.Random, files: Files) -> Files:
    """Change the configuration so that it needs more memory than there is."""
    document = json.loads(files["config.json"])
    configs = [document["model"]] if "model" in document else document["encoders"]
    if "network" in document:
        configs = [*configs, document["network"]]
    config = chance.choice(configs)
    numbers = sorted(key for key, value in config.items() if type(value) in (int, float))
    for key in chance.sample(numbers, chance.randrange(1, len(numbers) + 1)):
        config[key] = chance.choice([0, -1, 10**5, 10**6, 10**9, 2**31, 2**63, 10**30, 0.5, 1e300])
    return with_file(files, "config.json", _dump(document))


KINDS: dict[str, Damage] = {
    kind.__name__: kind
    for kind in (
        *(bytes_changed, bytes_changed_hash_right, json_changed, json_replaced, header_changed),
        *(tensors_changed, names_changed, vocabulary_changed, sizes_declared),
        *(special_file, odd_tensors, aliases),
    )
}


# ---------------------------------------------------------------- running


def write(directory: Path, files: Files) -> None:
    """Write these files and no others."""
    shutil.rmtree(directory)
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(data):
            data(path)
        else:
            path.write_bytes(data)


def attempt(use: Callable[[Path], None], directory: Path) -> str:
    """Return how a case ended: "refused", "works", "refused later", or what went wrong."""
    try:
        use(directory)
    except ChargenError as error:
        message = str(error)
        if len(message) > 1000 or not message.isprintable():
            return f"not a line of text: {message[:500]!r}"
        if not isinstance(error, CheckpointError):
            return "refused later"
        return "refused" if str(directory) in message else f"no name: {message}"
    except Exception as error:
        return "".join(traceback.format_exception(error)[-3:])
    return "works"


class Peak:
    """Measures the largest growth of the process in megabytes; 0 if the system cannot tell."""

    def __init__(self) -> None:
        self.began = self._start()

    @staticmethod
    def _start() -> float | None:
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            return Peak._read("VmRSS")
        except OSError:
            return None

    @staticmethod
    def _read(name: str) -> float:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split(name + ":")[1].split()[0]) / 1024

    def megabytes(self) -> float:
        return 0.0 if self.began is None else self._read("VmHWM") - self.began


def sound_checkpoints(folder: Path) -> list[tuple[Path, Files, Callable[[Path], None]]]:
    """Save the intact checkpoints; return their paths, files and uses, the interrupted run last."""
    sound = []
    for name, stored, use in bases(folder):
        directory = folder / name
        checkpoint.save(directory, stored)
        files = {
            path.relative_to(directory).as_posix(): path.read_bytes()
            for path in directory.rglob("*")
            if path.is_file()
        }
        use(directory)
        write(directory, files)
        sound.append((directory, files, use))
    return sound


RIGHT = ("refused", "refused later", "works")
"""The acceptable ends of a case."""


def run(cases: int, seed: int, folder: Path) -> dict[str, Any]:
    """Damage and load checkpoints, and count how the cases end."""
    ngrams.BUCKET_BITS = SMALL_NGRAMS
    ends: dict[str, Counter[str]] = {kind: Counter() for kind in [*KINDS, "unfolding"]}
    failures: list[str] = []
    slowest, largest = (0.0, ""), (0.0, "")
    sound = sound_checkpoints(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    for case in range(cases):
        chance = random.Random(f"{seed} {case}")
        # A file that unfolds takes a hundred times as long to make as to refuse.
        kind = "unfolding" if case % 1000 == 7 else chance.choice(list(KINDS))
        # Resuming a run takes a hundred times as long as loading it.
        directory, files, use = sound[-1] if case % 50 == 0 else chance.choice(sound[:-1])
        damaged = (KINDS | {"unfolding": unfolding})[kind](chance, files)
        write(directory, damaged)
        del damaged
        peak, started = Peak(), time.process_time()
        end = attempt(use, directory)
        seconds, grown = time.process_time() - started, peak.megabytes()
        slowest = max(slowest, (seconds, f"case {case}, {kind}"))
        largest = max(largest, (grown, f"case {case}, {kind}"))
        # Resuming a run may take longer.
        if grown > MOST_MEGABYTES or (seconds > MOST_SECONDS and use is not use_run):
            end = f"{seconds:.1f} s, {grown:.0f} MB: {end}"
        if end not in RIGHT:
            failures.append(f"case {case}, {kind} of {directory.name}: {end}")
            end = "failed"
        ends[kind][end] += 1
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "cases": cases,
        "seconds": time.perf_counter() - began,
        "kinds": {kind: dict(counts) for kind, counts in ends.items()},
        "ends": dict(sum(ends.values(), Counter())),
        "slowest_seconds": slowest[0],
        "slowest": slowest[1],
        "largest_megabytes": largest[0],
        "largest": largest[1],
        "grown_megabytes": grown / 1024,
        "failures": failures[:20],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # In memory if possible: a hundred thousand cases would wear out a disk.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    run_and_report(
        lambda folder: run(arguments.cases, arguments.seed, folder),
        "fuzz",
        "failures",
        arguments.json,
        memory,
    )


if __name__ == "__main__":
    main()
