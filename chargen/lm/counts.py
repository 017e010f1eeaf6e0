"""An n-gram model of symbols that is mixed with a network: interpolated modified Kneser-Ney.

The n-gram model covers frequent short sequences, which the network then need not memorize; the
network covers dependencies over more than a few symbols, which cannot be counted. Their
probabilities are mixed linearly, so that the mixture is a distribution too. The discounts are those
of Chen & Goodman 1999 (https://doi.org/10.1006/csla.1999.0128); only the weight is tuned.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

HELD_OUT_SYMBOLS = 200_000
"""Number of held-out symbols that is enough to fit the weight."""

LEAST_DISCOUNT = 0.1
"""Smallest discount. In a short text the formula may give zero or less, and symbols that do not
occur in the text would then be impossible."""

_EM_ITERATIONS = 100
"""Iterations of expectation maximization for the weight, which converges in ten or twenty."""

Nodes = NDArray[np.int64]
Floats = NDArray[np.float64]


class Counts:
    """Probabilities of the next symbol from n-gram counts of a text, mixed with a network's.

    The trie of contexts is built on first use, in about a second per million symbols.

    Parameters
    ----------
    ids : (N,) integers
        The counted text, in the order in which the network reads. Its end is joined to its
        beginning, so that every symbol has a successor.
    vocabulary_size : int
        Number of symbols (V).
    order : int
        Number of symbols in the longest context (K).
    weight : float
        Weight of the counts in the mixture, above 0 and below 1; the network has the rest.
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
        return _build_trie(self.ids, self.vocabulary_size, self.order)

    def initial_contexts(self, batch_size: int) -> Nodes:
        """Return the contexts (B, K + 1) of streams that have read nothing; see `advance`."""
        nodes = np.full((batch_size, self.order + 1), -1)
        nodes[:, 0] = 0
        return nodes

    def advance(self, nodes: Nodes, ids: NDArray[np.integer]) -> Nodes:
        """Return the contexts (B, K + 1) after reading ids (B,).

        Column k is the node of the last k symbols, or -1 if they do not occur in the text.
        """
        after = self.initial_contexts(len(nodes))
        after[:, 1:] = self._trie.children(nodes[:, :-1], ids[:, None])
        return after

    def contexts_after(self, ids: NDArray[np.integer]) -> Nodes:
        """Return the contexts (B, K + 1) after reading ids (T, B)."""
        nodes = self.initial_contexts(ids.shape[1])
        for row in ids[-self.order :]:
            nodes = self.advance(nodes, row)
        return nodes

    def probabilities(self, nodes: Nodes) -> Floats:
        """Return the probabilities (B, V) of the next symbol after `nodes`; each row sums to 1."""
        trie, size = self._trie, self.vocabulary_size
        known = nodes >= 0
        contexts = np.where(known, nodes, 0)
        # The probability that a context and all longer ones leave to shorter contexts.
        backoff = np.where(known, trie.backoff[contexts], 1.0)[:, ::-1].cumprod(1)[:, ::-1]
        share = (
            np.pad(backoff[:, 1:], [(0, 0), (0, 1)], constant_values=1.0)
            / trie.total_counts[contexts]
        )
        firsts = trie.first_child[contexts[known]]
        counts = trie.first_child[contexts[known] + 1] - firsts  # number of children
        starts = np.cumsum(counts) - counts
        children = np.arange(counts.sum()) + np.repeat(firsts - starts, counts)
        rows = np.repeat(np.nonzero(known)[0], counts)
        probabilities = np.zeros((len(nodes), size))
        values = trie.discounted_counts[children] * np.repeat(share[known], counts)
        np.add.at(probabilities, (rows, trie.keys[children] % size), values)
        return probabilities + backoff[:, :1] / size

    def id_probabilities(self, ids: NDArray[np.integer], start_id: int) -> Floats:
        """Return the probability (N,) of each id, given the start symbol and the ids before it."""
        trie = self._trie
        previous = np.concatenate([[start_id], ids[:-1]])
        result = np.full(len(ids), 1 / self.vocabulary_size)
        nodes = np.zeros(len(ids), np.int64)  # contexts of k symbols, k = 0, 1, ... K
        for _ in range(self.order + 1):
            known = nodes >= 0
            contexts = np.where(known, nodes, 0)
            child = trie.children(nodes, ids)
            kept = np.where(child > 0, trie.discounted_counts[child - 1], 0.0)
            result = np.where(
                known, kept / trie.total_counts[contexts] + trie.backoff[contexts] * result, result
            )
            # Only the empty context precedes the start symbol.
            earlier = np.concatenate([[0 if nodes[0] == 0 else -1], nodes[:-1]])
            nodes = trie.children(earlier, previous)
        return result

    def mix(self, logits: NDArray[np.floating], nodes: Nodes) -> Floats:
        """Return log-probabilities (B, V) of the mixture, given the network's logits (B, V)."""
        network = logits.astype(np.float64)
        network -= np.logaddexp.reduce(network, -1, keepdims=True)
        return self._mixed(network, self.probabilities(nodes))

    def mix_log_probs(
        self, log_probs: NDArray[np.floating], ids: NDArray[np.integer], start_id: int
    ) -> Floats:
        """Return log-probabilities (N,) of ids in the mixture, given the network's (N,)."""
        return self._mixed(log_probs.astype(np.float64), self.id_probabilities(ids, start_id))

    def _mixed(self, network: Floats, counted: Floats) -> Floats:
        mixed: Floats = np.logaddexp(
            np.log1p(-self.weight) + network, np.log(self.weight) + np.log(counted)
        )
        return mixed


@dataclass(frozen=True)
class Gain:
    """Gain from counts on held-out text: mean negative log-probabilities per character, in nats."""

    network_nats: float
    counts_nats: float
    nats: float  # of the mixture


def best_weight(network: Floats, counted: Floats) -> float:
    """Return the weight of the counts that maximizes a text's probability, above 0 and below 1.

    `network` and `counted` are the probabilities (N,) of the text's symbols. Expectation
    maximization (Jelinek & Mercer 1980) converges to the only maximum.
    """
    weight = 0.5
    for _ in range(_EM_ITERATIONS):
        mixed = weight * counted
        weight = float((mixed / (mixed + (1 - weight) * network)).mean())
    return min(max(weight, 1e-6), 1 - 1e-6)


# ---------------------------------------------------------------- the trie


@dataclass(frozen=True)
class _Trie:
    """Trie of n-grams: node 0 is the empty context, and a child extends its parent by one symbol.

    The children of a node are adjacent, in the order of their symbols. The longest n-grams, which
    are not contexts, come last.
    """

    vocabulary_size: int  # V
    keys: Nodes  # (M,) for nodes 1 to M: parent * V + symbol, ascending
    discounted_counts: Floats  # (M,) count of the symbol after the parent, less the discount
    first_child: Nodes  # (contexts + 1,) index in `keys` of each context's first child
    total_counts: Floats  # (contexts,) count of all symbols after the context
    backoff: Floats  # (contexts,) share of the discounts in the total

    def children(self, nodes: Nodes, ids: NDArray[np.integer]) -> Nodes:
        """Return the child of each node for each id, or -1 if there is none."""
        keys = nodes * self.vocabulary_size + ids
        indices = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where((nodes >= 0) & (self.keys[indices] == keys), indices + 1, -1)


def _build_trie(ids: NDArray[np.integer], size: int, order: int) -> _Trie:
    count = len(ids)
    dtype = np.uint16 if size <= 1 << 16 else np.uint32  # 16-bit numbers sort much faster
    circular = np.resize(ids.astype(dtype), count + order)
    columns = [circular[offset : offset + count] for offset in range(order + 1)]
    by_gram = np.lexsort(columns[::-1])  # start positions of n-grams, sorted by n-gram
    keys: list[Nodes] = []
    counts: list[Nodes] = []
    differs = np.zeros(count, np.bool_)
    differs[0] = True
    node = np.zeros(count, np.int64)  # nodes of the n-grams shorter by one, in this order
    node_at = np.zeros(count, np.int64)  # the same nodes by position in the text
    for length, column in enumerate(columns, 1):
        symbols = column[by_gram]
        differs[1:] |= symbols[1:] != symbols[:-1]
        starts = np.flatnonzero(differs)
        keys.append(node[starts] * size + symbols[starts])
        shorter = sum(map(len, counts))  # number of shorter n-grams, without the empty context
        if length > 1:
            # Kneser-Ney: a shorter n-gram counts once for each distinct symbol that precedes it.
            suffixes = node_at[(by_gram[starts] + 1) % count] - 1 - (shorter - len(counts[-1]))
            counts[-1] = np.bincount(suffixes)
        counts.append(np.diff(np.append(starts, count)))
        node = shorter + np.cumsum(differs)
        node_at[by_gram] = node
    all_keys, all_counts = np.concatenate(keys), np.concatenate(counts)
    contexts = 1 + len(all_counts) - len(counts[-1])
    first = np.searchsorted(all_keys, np.arange(contexts + 1) * size)
    discounts = np.concatenate([_discounts(level)[np.minimum(level, 3) - 1] for level in counts])
    total = np.add.reduceat(all_counts, first[:-1]).astype(np.float64)
    return _Trie(
        size,
        all_keys,
        all_counts - discounts,
        first,
        total,
        np.add.reduceat(discounts, first[:-1]) / total,
    )


def _discounts(counts: NDArray[np.integer]) -> Floats:
    """Return the discounts (3,) of a count of 1, of 2, and of 3 or more."""
    n = [max(1, int((counts == number).sum())) for number in range(1, 5)]  # counts of counts
    ratio = n[0] / (n[0] + 2 * n[1])
    discounts = [k - (k + 1) * ratio * n[k] / n[k - 1] for k in (1, 2, 3)]
    return np.maximum(LEAST_DISCOUNT, discounts)
