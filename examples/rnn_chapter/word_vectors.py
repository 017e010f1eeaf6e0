"""Word vectors from unlabelled texts, by counting, as a text file in word2vec's format.

Words are similar if they occur near similar words. For each pair, the script counts how often they
occur within a few words of each other. The positive pointwise mutual information of the pairs,

    ln p(word, neighbour) / (p(word) p(neighbour)), or 0 where that is negative,

forms a matrix. Its largest singular vectors, weighted by the square roots of their singular values,
are the word vectors (Levy & Goldberg 2014 show that word2vec factorises nearly this matrix; weights
and the power 0.75 of the neighbours' counts as in Levy, Goldberg & Dagan 2015). Run it:

    python examples/rnn_chapter/word_vectors.py reviews.txt vectors.txt --size 100
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor
from words import Vocabulary, tokenise

from chargen import ConfigError, ExamplesConfig
from chargen.cli.scripts import at_least, run_script
from chargen.sentiment.examples import read_texts
from chargen.storage.whole_files import write_file


def neighbours(texts: list[list[int]], size: int, window: int) -> Tensor:
    """Count how often words occur at most `window` words apart, sparse (V, V)."""
    ids = torch.tensor([i for text in texts for i in [*text, *[-1] * window]])  # -1 separates texts
    counts = torch.sparse_coo_tensor(size=(size, size))
    for distance in range(1, window + 1):
        pairs = torch.stack([ids[:-distance], ids[distance:]])
        pairs = pairs[:, (pairs >= 0).all(0)]
        ones = torch.ones(pairs.shape[1])
        counts = (counts + torch.sparse_coo_tensor(pairs, ones, (size, size))).coalesce()
    return (counts + counts.t()).coalesce()


def information(counts: Tensor) -> Tensor:
    """Return the positive pointwise mutual information of counts, in nats; both sparse (V, V)."""
    (first, second), joint = counts.indices(), counts.values()
    words = torch.zeros(len(counts)).index_add(0, first, joint)
    others = words**0.75
    ratio = joint / words[first] * others.sum() / others[second]
    return torch.sparse_coo_tensor(counts.indices(), ratio.log().clamp(min=0), counts.shape)


def main() -> None:
    """Read, count, factorise and write."""
    parser = argparse.ArgumentParser(description="Word vectors by counting.")
    parser.add_argument("texts", help="a table, a folder, or a file with a text in each line")
    parser.add_argument("out", help="the file of vectors")
    parser.add_argument("--size", type=at_least(1), default=100, help="numbers of a vector [100]")
    parser.add_argument("--window", type=at_least(1), default=5, help="words to each side [5]")
    parser.add_argument("--min-count", type=at_least(1), default=5, help="of a word [5]")
    parser.add_argument("--limit", type=at_least(1), help="read only so many texts")
    parser.add_argument("--seed", type=at_least(0), default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.sparse.check_sparse_tensor_invariants.enable()  # torch warns if neither is chosen
    texts = read_texts(args.texts, ExamplesConfig(clean="html"))[: args.limit]
    numbers = Vocabulary.from_texts(texts, args.min_count).numbers
    if len(numbers) < args.size:
        raise ConfigError(
            f"{args.texts} has {len(numbers):,} words that are frequent enough, fewer than --size "
            f"{args.size}: give more texts, a smaller --size or a smaller --min-count"
        )
    encoded = [[numbers[word] - 2 for word in tokenise(t) if word in numbers] for t in texts]
    matrix = information(neighbours(encoded, len(numbers), args.window))
    left, values, _ = torch.svd_lowrank(matrix, args.size)
    vectors = left * values.sqrt()  # (V, size)
    lines = [f"{len(numbers)} {args.size}"]
    for word, vector in zip(numbers, vectors.tolist(), strict=True):
        lines.append(" ".join([word, *(f"{value:.5g}" for value in vector)]))
    write_file(args.out, ("\n".join(lines) + "\n").encode())
    print(f"{len(numbers):,} words of {len(texts):,} texts -> {args.out}")


if __name__ == "__main__":
    run_script(main)
