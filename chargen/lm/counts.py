"""An n-gram model of symbols beside a network: interpolated modified Kneser-Ney.

What stands often in a text a network need not learn by heart where it can be counted; what depends
on more than a few symbols cannot be counted. Their probabilities are mixed linearly, so that the
mixture is a distribution too. Discounts are those of Chen & Goodman 1999
(https://doi.org/10.1006/csla.1999.0128): nothing is tuned but the weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

LONGEST = 10_000_000
"""Symbols that are counted: the trie of 10 million takes some 500 MB."""

HELD_OUT = 200_000
"""Symbols of held-out text that are enough to find the weight."""

LEAST_DISCOUNT = 0.1
"""A short text may call for none or less: then what it lacks would be impossible."""

_STEPS = 100
"""Of expectation maximization for one weight, which settles in ten or twenty."""

Nodes = NDArray[np.int64]
Floats = NDArray[np.float64]


class Counts:
    """How often each symbol follows each context in a text, as probabilities beside a network's.

    The trie of the contexts is made when it is first needed, in a second for a million symbols.

    Parameters
    ----------
    ids : (N,) integers
        The counted text, in the order in which the network reads. It is counted as a circle, so
        that each symbol has one that follows.
    vocabulary_size : int
        V.
    order : int
        Symbols of the longest context (K).
    weight : float
        Of these probabilities, above 0 and below 1; the network has the rest.
    """

    def __init__(
        self, ids: NDArray[np.integer], vocabulary_size: int, order: int, weight: float = 0.5
    ) -> None:
        self.ids = ids
        self.vocabulary_size = vocabulary_size
        self.order = order
        self.weight = weight

    @cached_property
    def _trie(self) -> _Trie:
        return _count(self.ids, self.vocabulary_size, self.order)

    def roots(self, batch_size: int) -> Nodes:
        """The contexts of streams that have read nothing; see `advance`."""
        nodes = np.full((batch_size, self.order + 1), -1)
        nodes[:, 0] = 0
        return nodes

    def advance(self, nodes: Nodes, ids: NDArray[np.integer]) -> Nodes:
        """The contexts after reading ids (B,): nodes (B, K + 1) of the last 0, 1, ... K symbols.

        It is -1 where they do not stand in the text.
        """
        after = self.roots(len(nodes))
        after[:, 1:] = self._trie.children(nodes[:, :-1], ids[:, None])
        return after

    def after(self, ids: NDArray[np.integer]) -> Nodes:
        """The contexts after reading ids (T, B)."""
        nodes = self.roots(ids.shape[1])
        for row in ids[-self.order :]:
            nodes = self.advance(nodes, row)
        return nodes

    def probabilities(self, nodes: Nodes) -> Floats:
        """Of what follows these contexts, (B, V); a row adds up to 1."""
        trie, size = self._trie, self.vocabulary_size
        known = nodes >= 0
        at = np.where(known, nodes, 0)
        # What each context and all longer ones leave to shorter ones.
        left = np.where(known, trie.backoff[at], 1.0)[:, ::-1].cumprod(1)[:, ::-1]
        share = np.pad(left[:, 1:], [(0, 0), (0, 1)], constant_values=1.0) / trie.total[at]
        begins = trie.first[at[known]]
        lengths = trie.first[at[known] + 1] - begins
        starts = np.cumsum(lengths) - lengths
        places = np.arange(lengths.sum()) + np.repeat(begins - starts, lengths)
        rows = np.repeat(np.nonzero(known)[0], lengths)
        found = np.zeros((len(nodes), size))
        values = trie.kept[places] * np.repeat(share[known], lengths)
        np.add.at(found, (rows, trie.keys[places] % size), values)
        return found + left[:, :1] / size

    def probabilities_of(self, ids: NDArray[np.integer], start_id: int) -> Floats:
        """Of each of ids (N,) after the start symbol and those before it, (N,)."""
        trie = self._trie
        before = np.concatenate([[start_id], ids[:-1]])
        found = np.full(len(ids), 1 / self.vocabulary_size)
        nodes = np.zeros(len(ids), np.int64)  # of the last k symbols, k = 0, 1, ... K
        for _ in range(self.order + 1):
            known = nodes >= 0
            at = np.where(known, nodes, 0)
            child = trie.children(nodes, ids)
            kept = np.where(child > 0, trie.kept[child - 1], 0.0)
            found = np.where(known, kept / trie.total[at] + trie.backoff[at] * found, found)
            # Before the start symbol there is nothing but the empty context.
            earlier = np.concatenate([[0 if nodes[0] == 0 else -1], nodes[:-1]])
            nodes = trie.children(earlier, before)
        return found

    def mix(self, logits: NDArray[np.floating], nodes: Nodes) -> Floats:
        """Log-probabilities (B, V) of the mixture, from the network's logits (B, V)."""
        network = logits.astype(np.float64)
        network -= np.logaddexp.reduce(network, -1, keepdims=True)
        return self._mixed(network, self.probabilities(nodes))

    def mix_of(
        self, log_probs: NDArray[np.floating], ids: NDArray[np.integer], start_id: int
    ) -> Floats:
        """Log-probabilities (N,) of ids by the mixture, from those by the network."""
        return self._mixed(log_probs.astype(np.float64), self.probabilities_of(ids, start_id))

    def _mixed(self, network: Floats, counted: Floats) -> Floats:
        found: Floats = np.logaddexp(
            np.log1p(-self.weight) + network, np.log(self.weight) + np.log(counted)
        )
        return found


@dataclass(frozen=True)
class Gain:
    """What counts are worth on held-out text: mean negative log-probabilities of a character."""

    network_nats: float
    counts_nats: float
    nats: float  # of the mixture


def best_weight(network: Floats, counted: Floats) -> float:
    """The weight of the counts with which a text is likeliest, above 0 and below 1.

    Found by expectation maximization (Jelinek & Mercer 1980) from the probabilities (N,) of the
    text's symbols; there is one maximum.
    """
    weight = 0.5
    for _ in range(_STEPS):
        mixed = weight * counted
        weight = float((mixed / (mixed + (1 - weight) * network)).mean())
    return min(max(weight, 1e-6), 1 - 1e-6)


# ---------------------------------------------------------------- the trie


@dataclass(frozen=True)
class _Trie:
    """Node 0 is the empty context; a child is its parent's symbols and one more.

    Children of a node lie side by side, in the order of their symbols. Those that are no context,
    because they are too long, come last.
    """

    size: int  # V
    keys: Nodes  # (M,) of nodes 1 to M: parent * V + symbol, ascending
    kept: Floats  # (M,) how often the symbol follows the parent, less the discount
    first: Nodes  # (contexts + 1,) place of the first child of each
    total: Floats  # (contexts,) how often anything follows
    backoff: Floats  # (contexts,) share of what the discounts took

    def children(self, nodes: Nodes, ids: NDArray[np.integer]) -> Nodes:
        """The nodes one symbol longer; -1 where there is none."""
        wanted = nodes * self.size + ids
        places = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where((nodes >= 0) & (self.keys[places] == wanted), places + 1, -1)


def _count(ids: NDArray[np.integer], size: int, order: int) -> _Trie:
    count = len(ids)
    narrow = np.uint16 if size <= 1 << 16 else np.uint32  # 16 bits are sorted much faster
    around = np.resize(ids.astype(narrow), count + order)
    columns = [around[place : place + count] for place in range(order + 1)]
    by_gram = np.lexsort(columns[::-1])  # where n-grams begin, in the order of n-grams
    keys: list[Nodes] = []
    counts: list[Nodes] = []
    differs = np.zeros(count, np.bool_)
    differs[0] = True
    node = np.zeros(count, np.int64)  # of the n-grams one symbol shorter, in the same order
    there = np.zeros(count, np.int64)  # the same by the place in the text
    for length, column in enumerate(columns, 1):
        symbols = column[by_gram]
        differs[1:] |= symbols[1:] != symbols[:-1]
        starts = np.flatnonzero(differs)
        keys.append(node[starts] * size + symbols[starts])
        before = sum(map(len, counts))  # nodes of shorter n-grams, but for the root
        if length > 1:
            # A shorter n-gram counts as often as another symbol stands before it.
            end = there[(by_gram[starts] + 1) % count] - 1 - (before - len(counts[-1]))
            counts[-1] = np.bincount(end)
        counts.append(np.diff(np.append(starts, count)))
        node = before + np.cumsum(differs)
        there[by_gram] = node
    every, whole = np.concatenate(keys), np.concatenate(counts)
    contexts = 1 + len(whole) - len(counts[-1])
    first = np.searchsorted(every, np.arange(contexts + 1) * size)
    taken = np.concatenate([_discounts(each)[np.minimum(each, 3) - 1] for each in counts])
    total = np.add.reduceat(whole, first[:-1]).astype(np.float64)
    return _Trie(
        size, every, whole - taken, first, total, np.add.reduceat(taken, first[:-1]) / total
    )


def _discounts(counts: NDArray[np.integer]) -> Floats:
    """What is taken from a count of 1, 2, and 3 or more: (3,)."""
    of = [max(1, int((counts == number).sum())) for number in range(1, 5)]
    ratio = of[0] / (of[0] + 2 * of[1])
    found = [k - (k + 1) * ratio * of[k] / of[k - 1] for k in (1, 2, 3)]
    return np.maximum(LEAST_DISCOUNT, found)
