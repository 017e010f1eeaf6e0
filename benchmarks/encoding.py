"""Speed of encoding text to ids: the vocabulary's table look-up against a Python dictionary loop.

python benchmarks/encoding.py [FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from chargen.text.builtin import topics
from chargen.text.vocabulary import ByteVocabulary, CharVocabulary


def seconds(function: Callable[[], object], repeats: int) -> list[float]:
    """Return the wall times of several calls, in seconds."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, help="UTF-8 text (default: Python's docs)")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    text = arguments.file.read_text(encoding="utf-8") if arguments.file else "\n\n".join(topics())
    characters = CharVocabulary("".join(sorted(set(text))))
    table = {c: int(characters.encode(c)[0]) for c in set(text)}

    def loop() -> object:
        return np.array([table[c] for c in text], dtype=characters.dtype)

    assert np.array_equal(loop(), characters.encode(text))
    timed = {
        "dictionary loop": seconds(loop, arguments.repeats),
        "CharVocabulary": seconds(lambda: characters.encode(text), arguments.repeats),
        "ByteVocabulary": seconds(lambda: ByteVocabulary().encode(text), arguments.repeats),
    }
    base = statistics.median(timed["dictionary loop"])
    rows = {
        name: {
            "characters_per_second": len(text) / statistics.median(times),
            "speedup_over_dictionary_loop": base / statistics.median(times),
            "spread": (max(times) - min(times)) / statistics.median(times),
        }
        for name, times in timed.items()
    }
    if arguments.json:
        print(json.dumps(rows))
        return
    print(f"{len(text):,} characters, {arguments.repeats} repeats, median")
    for name, row in rows.items():
        print(
            f"{name:18}{row['characters_per_second'] / 1e6:10.1f} M characters/s"
            f"{row['speedup_over_dictionary_loop']:10.1f} x   spread {row['spread']:.0%}"
        )


if __name__ == "__main__":
    main()
