"""Word vectors for `chargen sentiment compare --embeddings`, trained by gensim on unlabelled texts.

    pip install gensim
    python benchmarks/word_vectors.py imdb_unsup.txt.xz vectors.txt --size 100

A text file in word2vec's layout (Mikolov et al. 2013: skip-gram with negative sampling).
"""

from __future__ import annotations

import argparse

from gensim.models import Word2Vec

from chargen.sentiment.baselines.words import tokenise
from chargen.sentiment.config import ExamplesConfig
from chargen.sentiment.examples import read_texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts")
    parser.add_argument("out")
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--most", type=int, default=50_000, help="texts to read")
    arguments = parser.parse_args()
    texts = read_texts(arguments.texts, ExamplesConfig(clean="html"))[: arguments.most]
    model = Word2Vec(
        [tokenise(text) for text in texts],
        vector_size=arguments.size,
        min_count=5,
        sg=1,
        workers=1,
        seed=0,
        epochs=arguments.epochs,
    )
    model.wv.save_word2vec_format(arguments.out)
    print(f"{len(model.wv):,} words from {len(texts):,} texts -> {arguments.out}")


if __name__ == "__main__":
    main()
