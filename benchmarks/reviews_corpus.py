"""Write one corpus of the IMDB reviews that may be used: the training and the unlabelled ones.

    python benchmarks/reviews_corpus.py FOLDER reviews.jsonl

FOLDER holds imdb_train.csv.xz (column "text") and imdb_unsup.txt.xz (one review per line), of the
Large Movie Review Dataset (Maas et al. 2011). HTML is turned into text, duplicate reviews are
written once, and the order is shuffled, so that validation text is a sample of all reviews. The
test reviews are never read.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from chargen.sentiment.config import ExamplesConfig
from chargen.sentiment.examples import read_texts

FILES = ("imdb_train.csv.xz", "imdb_unsup.txt.xz")


def main() -> None:
    """Write the corpus and print its size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    cleaned = ExamplesConfig(clean="html")
    reviews = (text for name in FILES for text in read_texts(str(arguments.folder / name), cleaned))
    texts = list(dict.fromkeys(reviews))
    random.Random(0).shuffle(texts)
    with arguments.out.open("w", encoding="utf-8") as file:
        for text in texts:
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    characters = sum(map(len, texts))
    print(f"{len(texts):,} reviews, {characters:,} characters -> {arguments.out}")


if __name__ == "__main__":
    main()
