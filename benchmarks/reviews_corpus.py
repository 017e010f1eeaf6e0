"""Write one corpus of the IMDB reviews that may be used: the training and the unlabelled ones.

    python benchmarks/reviews_corpus.py FOLDER reviews.jsonl

FOLDER holds imdb_train.csv.xz (column "text") and imdb_unsup.txt.xz (one review per line), of the
Large Movie Review Dataset (Maas et al. 2011). HTML is turned into text, duplicate reviews are
written once, and the order is shuffled, so that validation text is a sample of all reviews. The
test reviews are never read.
"""

from __future__ import annotations

import csv
import json
import lzma
import random
import sys
from collections.abc import Iterator
from pathlib import Path

from chargen.text.html import clean_html


def reviews(folder: Path) -> Iterator[str]:
    """Yield the training reviews, then the unlabelled reviews."""
    csv.field_size_limit(1 << 24)
    with lzma.open(folder / "imdb_train.csv.xz", "rt", encoding="utf-8", newline="") as file:
        yield from (row["text"] for row in csv.DictReader(file))
    with lzma.open(folder / "imdb_unsup.txt.xz", "rt", encoding="utf-8") as file:
        yield from (line.rstrip("\n") for line in file)


def main(folder: str, out: str) -> None:
    """Write the corpus and print its size."""
    texts = list(dict.fromkeys(clean_html(text) for text in reviews(Path(folder))))
    random.Random(0).shuffle(texts)
    with Path(out).open("w", encoding="utf-8") as file:
        for text in texts:
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    characters = sum(map(len, texts))
    print(f"{len(texts):,} reviews, {characters:,} characters -> {out}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
