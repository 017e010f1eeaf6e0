"""Labelled texts of all lengths for the shipped classifier: reviews, parts of reviews, sentences.

    python benchmarks/sentiment_texts.py FOLDER train.csv valid.csv

FOLDER holds imdb_train.csv.xz (Maas et al. 2011) and sst2_{train,dev}.csv (Socher et al. 2013).
Each review is written whole, and again as one to three of its sentences with the label of the
review. Some of these sentences do not show the label, so a classifier learns how uncertain a short
text is. Sentences of SST-2 are written unchanged. Validation texts are those of SST-2, and reviews
of which no part is used for training. No test split is read.
"""

from __future__ import annotations

import argparse
import csv
import random
import re
from collections.abc import Iterable
from pathlib import Path

from chargen.sentiment.config import ExamplesConfig
from chargen.sentiment.examples import Examples, read_examples
from chargen.sentiment.splitting import split

VALID_FRACTION = 0.04
"""Share of the reviews."""

MOST_SENTENCES = 3
FEWEST_WORDS, MOST_WORDS = 4, 60
"""Limits for a part of a review."""

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")

Pair = tuple[str, str]


def main() -> None:
    """Write both tables and print their sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("train", type=Path)
    parser.add_argument("valid", type=Path)
    arguments = parser.parse_args()
    path, outs = arguments.folder, (arguments.train, arguments.valid)
    reviews = read_examples(str(path / "imdb_train.csv.xz"), ExamplesConfig(clean="html"))
    parts = split(reviews, VALID_FRACTION, 0)
    names = ExamplesConfig(label_map="0=neg,1=pos")
    for out, part, sentences in zip(outs, parts, ("sst2_train.csv", "sst2_dev.csv"), strict=True):
        short = read_examples(str(path / sentences), names)
        rows = [*pairs(part), *shortened(part), *pairs(short)]
        random.Random(0).shuffle(rows)
        with out.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("label", "text"), *rows])
        print(f"{len(rows):,} texts, {sum(len(text) for _, text in rows):,} characters -> {out}")


def pairs(examples: Examples) -> Iterable[Pair]:
    """Return the label and text of each example."""
    return zip(examples.labels, examples.texts, strict=True)


def shortened(examples: Examples) -> list[Pair]:
    """Return a few sentences of each text, drawn with the index of the text as seed."""
    rows = []
    for index, (label, text) in enumerate(pairs(examples)):
        generator = random.Random(index)
        sentences = _SENTENCE_END.split(text)
        first = generator.randrange(len(sentences))
        part = " ".join(sentences[first : first + generator.randint(1, MOST_SENTENCES)]).strip()
        if FEWEST_WORDS <= len(part.split()) <= MOST_WORDS and len(part) < len(text):
            rows.append((label, part))
    return rows


if __name__ == "__main__":
    main()
