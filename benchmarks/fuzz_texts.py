"""Arbitrary text files: each one is read, or refused in one sentence.

    python benchmarks/fuzz_texts.py --cases 20000 --line-megabytes 100

Each case writes a file of one of the kinds below, reads it as a corpus, makes a vocabulary of the
text, and encodes and decodes it. A case passes if it ends in a `ChargenError` whose sentence is one
printable line and names the file, or in text that is valid Unicode and is recovered from its ids.
If the file was written from text in an encoding that can represent it, the result must be that
text. Everything else is a failure, shown with its seed, and the exit code is 1.

Prints the cases of each kind and how they ended, and the memory that a long line needs.
"""

from __future__ import annotations

import argparse
import bz2
import contextlib
import encodings.aliases
import gzip
import json
import lzma
import os
import random
import shutil
import socket
import time
import traceback
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from long_form import run_and_report

from chargen.errors import ChargenError, printable
from chargen.text.config import CorpusConfig, is_text_encoding
from chargen.text.sources import read, resolve
from chargen.text.symbols import SEPARATOR
from chargen.text.vocabulary import ByteVocabulary, CharVocabulary

ALPHABETS = [
    "abc \n",
    "abc \r\n\t\x0b\x0c\x1c\x85\u2028",
    "äöüßéñç\u0301\u0308",
    "שלום עולם\u200f\u202e مرحبا",
    "日本語中文한국어",
    "👩‍👩‍👧🏽🇩🇪\ufe0f\u200d",
    "\x00\x01\x07\x1b[31m\x7f\x9b",
    "\ufeff\ufffe\uffff\ufffd\U0010ffff",
    '"",;\t\n\\{}[]:',
]

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
with contextlib.suppress(ImportError):
    import zstandard

    PACKERS[".zst"] = zstandard.compress

Case = tuple[Path, CorpusConfig, "str | None"]
"""A file, how it is read, and the text that must result if it is known."""

Kind = Callable[[random.Random, Path], Case]


def text_encodings() -> list[str]:
    """Return all codecs of Python that decode bytes to text."""
    names = {*encodings.aliases.aliases.values(), "utf_8_sig", "raw_unicode_escape"}
    return sorted(name for name in names if is_text_encoding(name))


ENCODINGS = text_encodings()


def some_text(chance: random.Random, most: int = 200) -> str:
    """Return text of one or several scripts, sometimes one character repeated."""
    if chance.random() < 0.1:
        return chance.choice(chance.choice(ALPHABETS)) * chance.randrange(1, 5000)
    alphabet = "".join(chance.sample(ALPHABETS, chance.randrange(1, 4)))
    return "".join(chance.choices(alphabet, k=chance.randrange(1, most)))


def damaged(chance: random.Random, data: bytes) -> bytes:
    """Flip bits, cut off the end, insert bytes, or repeat a part."""
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        position = chance.randrange(len(changed) + 1)
        way = chance.randrange(4)
        if way == 0 and changed:
            changed[position % len(changed)] ^= 1 << chance.randrange(8)
        elif way == 1:
            del changed[position:]
        elif way == 2:
            odd = [
                b"\x00",
                b"\xff",
                b'"',
                b"\n",
                b"\r",
                b"\xed\xa0\x80",
                b"\xc0\x80",
                b"\xef\xbb\xbf",
            ]
            changed[position:position] = chance.choice(odd)
        else:
            changed[position:position] = changed[max(0, position - 20) : position]
    return bytes(changed)


def normal(text: str) -> str:
    """Return the text as it is read: with Unix newlines."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


# ---------------------------------------------------------------- kinds


def encoded(chance: random.Random, folder: Path) -> Case:
    """Write text in a random encoding, or in UTF-8 if that encoding cannot represent it."""
    name, text = chance.choice(ENCODINGS), some_text(chance)
    try:
        data = text.encode(name)
        whole = data.decode(name) == text
    except (UnicodeError, ValueError):
        data, whole = text.encode("utf-8"), False
    path = folder / "text.txt"
    path.write_bytes(data)
    # A byte order mark at the beginning is not text.
    certain = whole and not text.startswith(("\ufeff", "\ufffe")) and "\r" not in text
    return path, CorpusConfig(encoding=name), text if certain else None


def random_bytes(chance: random.Random, folder: Path) -> Case:
    path = folder / "text.txt"
    path.write_bytes(chance.randbytes(chance.randrange(1, 400)))
    errors = chance.choice(["strict", "replace"])
    return path, CorpusConfig(encoding=chance.choice(ENCODINGS), errors=errors), None


def damaged_utf8(chance: random.Random, folder: Path) -> Case:
    path = folder / chance.choice(["text.txt", "a\nb.txt", "\x1b[31m.txt", "\udcff.txt", "ü ☃"])
    path.write_bytes(damaged(chance, some_text(chance).encode("utf-8", "surrogatepass")))
    errors = chance.choice(["strict", "replace"])
    normalize = chance.choice([None, "NFC"])
    documents = chance.choice([None, "lines", "files"])
    clean = chance.choice([None, "html"])
    config = CorpusConfig(errors=errors, normalize=normalize, documents=documents, clean=clean)
    return path, config, None


def archive(chance: random.Random, folder: Path) -> Case:
    """Write compressed text: intact, damaged, compressed twice, or in two parts."""
    suffix = chance.choice(list(PACKERS))
    text = some_text(chance)
    data = PACKERS[suffix](text.encode())
    way = chance.randrange(4)
    if way == 0:
        data = damaged(chance, data)
    elif way == 1:
        data = PACKERS[suffix](data)
    elif way == 2:
        data += PACKERS[suffix](text.encode())
    path = folder / f"text.txt{suffix}"
    path.write_bytes(data)
    known = normal(text) if way == 3 and not text.startswith("\ufeff") else None
    return path, CorpusConfig(), known


def table(chance: random.Random, folder: Path) -> Case:
    """Write CSV, TSV or JSON lines, mostly damaged."""
    suffix = chance.choice([".csv", ".tsv", ".jsonl"])
    cells = [[some_text(chance, 20) for _ in range(3)] for _ in range(chance.randrange(1, 6))]
    if suffix == ".jsonl":
        odd: list[Any] = [None, 3, 10**400, [[]], {"text": {"text": "x"}}, "x", 1e999]
        rows = [{"text": a, "label": b, "n": chance.choice(odd)} for a, b, _ in cells]
        data = "\n".join(json.dumps(row, ensure_ascii=chance.random() < 0.5) for row in rows)
        if chance.random() < 0.1:
            data += "\n" + "[" * 100_000
    else:
        mark = "," if suffix == ".csv" else "\t"
        quoted = [['"' + cell.replace('"', '""') + '"' for cell in row] for row in cells]
        data = "\r\n".join(mark.join(row) for row in [["text", "label", "n"], *quoted])
    raw = data.encode("utf-8", "surrogatepass")
    path = folder / f"table{suffix}"
    path.write_bytes(damaged(chance, raw) if chance.random() < 0.7 else raw)
    documents = chance.choice([None, "rows"])
    return (
        path,
        CorpusConfig(documents=documents, errors=chance.choice(["strict", "replace"])),
        None,
    )


def no_file(chance: random.Random, folder: Path) -> Case:
    """Create anything but text: a device, socket, broken link, folder or empty file."""
    path = folder / "thing"
    way = chance.randrange(8)
    if way == 0:
        path.symlink_to(path)
    elif way == 1:
        path.symlink_to(folder / "nowhere")
    elif way == 2:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif way == 3:
        path = Path(chance.choice(["/dev/zero", "/dev/null", "/dev/full"]))
    elif way == 4:
        path.mkdir()
        (path / "again").symlink_to(path)
        (path / "a.txt").write_text(some_text(chance), encoding="utf-8")
    elif way == 5:
        path.mkdir()
    elif way == 6:
        path.write_bytes(b"")
    else:
        path = folder / ("x" * 300)
    return path, CorpusConfig(), None


KINDS: dict[str, Kind] = {
    kind.__name__: kind for kind in (encoded, random_bytes, damaged_utf8, archive, table, no_file)
}


# ---------------------------------------------------------------- running


def attempt(path: Path, config: CorpusConfig, known: str | None) -> str:
    """Return how a case ended: "text", "refused", or what went wrong."""
    try:
        text = "".join(read(resolve([str(path)], config), config))
    except ChargenError as error:
        line = str(error)
        if not line.isprintable():
            return f"not one printable line: {line!r}"
        return "refused" if printable(path.name)[:20] in line else f"does not name the file: {line}"
    except Exception as error:
        return "".join(traceback.format_exception(error)[-3:])
    plain = text.replace(SEPARATOR, "")
    try:
        plain.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"text that is none: {error}"
    if known is not None and text != known:
        return f"other text: {text[:50]!r} in the place of {known[:50]!r}"
    return came_back(plain)


def came_back(text: str) -> str:
    """Convert text to ids and back, as characters and as bytes; return how it ended."""
    if not text:
        return "empty"
    vocabularies = [CharVocabulary.build(Counter(text)), ByteVocabulary()]
    for vocabulary in vocabularies:
        if vocabulary.decode(vocabulary.encode(text)) != text:
            return f"other text from ids of {vocabulary}"
    return "text"


def changing(folder: Path) -> str:
    """Change a file while it is read; return what went wrong, or an empty string."""
    for change in ("shrink", "grow", "replace"):
        path = folder / "text.txt"
        path.write_text("some text\n" * 400_000)
        pieces = read(resolve([str(path)], CorpusConfig()), CorpusConfig())
        next(pieces)
        if change == "shrink":
            os.truncate(path, 1000)
        elif change == "grow":
            with path.open("a") as file:
                file.write("more")
        else:
            path.unlink()
            path.write_text("other")
        try:
            length = sum(map(len, pieces))
        except ChargenError as error:
            if "changed" not in str(error):
                return f"{change}: {error}"
        else:
            # An open file can be read to its end after another file has taken its name.
            if change != "replace" or not length:
                return f"{change}: was not noticed"
        path.unlink()
    return ""


def long_line(megabytes: int, folder: Path) -> float:
    """Return the megabytes of memory needed to read a line of `megabytes` megabytes."""
    path = folder / "line.txt"
    with path.open("w") as file:
        for _ in range(megabytes):
            file.write("x" * 1_000_000)
    tracemalloc.start()
    length = sum(map(len, read(resolve([str(path)], CorpusConfig()), CorpusConfig())))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert length == megabytes * 1_000_000
    return peak / 1e6


def run(cases: int, seed: int, folder: Path, line_megabytes: int) -> dict[str, Any]:
    """Write and read files, and count how the cases end."""
    ends: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    failures: list[str] = []
    slowest = (0.0, "")
    began = time.perf_counter()
    for case in range(cases):
        chance = random.Random(f"{seed} {case}")
        kind = chance.choice(list(KINDS))
        case_folder = folder / "case"
        case_folder.mkdir()
        path, config, known = KINDS[kind](chance, case_folder)
        started = time.perf_counter()
        end = attempt(path, config, known)
        slowest = max(slowest, (time.perf_counter() - started, f"case {case}, {kind}"))
        shutil.rmtree(case_folder)
        if end not in ("text", "refused", "empty"):
            failures.append(f"case {case}, {kind}, {config.encoding}: {end}")
            end = "failed"
        ends[kind][end] += 1
    if unnoticed := changing(folder):
        failures.append(unnoticed)
    results: dict[str, Any] = {
        "cases": cases,
        "encodings": len(ENCODINGS),
        "seconds": time.perf_counter() - began,
        "kinds": {kind: dict(counts) for kind, counts in ends.items()},
        "slowest_seconds": slowest[0],
        "slowest": slowest[1],
        "failures": failures[:20],
    }
    if line_megabytes:
        results["line_megabytes"] = line_megabytes
        results["memory_of_the_line_megabytes"] = long_line(line_megabytes, folder)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--line-megabytes", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    cases, seed, megabytes = arguments.cases, arguments.seed, arguments.line_megabytes
    run_and_report(
        lambda folder: run(cases, seed, folder, megabytes), "texts", "failures", arguments.json
    )


if __name__ == "__main__":
    main()
