"""Documents in a new order for each pass, none lost, none cut, none grown together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.lm.batching import ShuffledDocuments, Streams

SEPARATOR = 0
DOCUMENTS = st.lists(st.lists(st.integers(1, 9), max_size=6), min_size=1, max_size=30)


def joined(documents: list[list[int]], ended: bool) -> np.ndarray:
    ids = [symbol for document in documents for symbol in (*document, SEPARATOR)]
    return np.array(ids if ended else ids[:-1], dtype=np.uint8)


def split(ids: np.ndarray) -> list[tuple[int, ...]]:
    parts: list[list[int]] = [[]]
    for symbol in ids.tolist():
        parts[-1].append(symbol)
        if symbol == SEPARATOR:
            parts.append([])
    return [tuple(part) for part in parts if part]


@given(DOCUMENTS, st.booleans(), st.integers(0, 2**32), st.integers(0, 50))
def test_each_pass_reads_each_document_once(
    documents: list[list[int]], ended: bool, seed: int, epoch: int
) -> None:
    ids = joined(documents, ended)
    if not len(ids):
        return
    shuffled = ShuffledDocuments(ids, SEPARATOR, seed)
    shuffled.draw(epoch)
    read = shuffled[np.arange(len(ids))]
    assert sorted(split(read)) == sorted(split(ids))
    if ids[-1] != SEPARATOR:  # the one without an end cannot stand before another
        assert split(read)[-1] == split(ids)[-1]


def test_passes_differ_and_seeds_differ_but_each_is_the_same_again() -> None:
    ids = joined([[n % 9 + 1] * (n % 5 + 1) for n in range(60)], True)
    everything = np.arange(len(ids))

    def order(seed: int, epoch: int) -> bytes:
        shuffled = ShuffledDocuments(ids, SEPARATOR, seed)
        shuffled.draw(epoch)
        return shuffled[everything].tobytes()

    assert len({order(0, 0), order(0, 1), order(0, 2), order(1, 0), ids.tobytes()}) == 5
    assert order(7, 3) == order(7, 3)


def test_streams_read_a_new_order_each_epoch_and_go_on_in_it() -> None:
    ids = joined([[n % 9 + 1] * 7 for n in range(100)], True)
    streams = Streams(ids, 2, 8, seed=3, separator=SEPARATOR)
    first = [streams.next().inputs for _ in range(streams.windows_per_epoch - 1)]
    while streams.epoch < 1:
        second = streams.next()
    assert not (first[0] == second.inputs).all()

    saved, generator = streams.state(), streams.generator.get_state()
    expected = [streams.next().inputs.tolist() for _ in range(5)]
    again = Streams(ids, 2, 8, seed=3, separator=SEPARATOR)
    again.restore(saved, generator)
    assert [again.next().inputs.tolist() for _ in range(5)] == expected


@pytest.mark.parametrize("columns", [range(1), range(1, 3)])
def test_a_ranks_columns_are_those_of_all(columns: range) -> None:
    ids = joined([[n % 9 + 1] * 7 for n in range(100)], True)
    whole = Streams(ids, 3, 8, seed=3, separator=SEPARATOR).next().inputs
    part = Streams(ids, 3, 8, 3, own_streams=columns, separator=SEPARATOR).next().inputs
    assert part.tolist() == whole[:, columns.start : columns.stop].tolist()


def test_orders_are_those_of_the_seed() -> None:
    # A run that was begun by an earlier version goes on in the same order.
    documents = ShuffledDocuments(joined([[n + 1] for n in range(8)], True), SEPARATOR, seed=5)
    orders = []
    for epoch in range(3):
        documents.draw(epoch)
        orders.append(documents[np.arange(0, 16, 2)].tolist())
    assert orders == [[6, 5, 1, 8, 2, 4, 3, 7], [5, 8, 4, 3, 7, 1, 6, 2], [1, 4, 5, 8, 7, 6, 3, 2]]


def test_streams_read_documents_in_their_order() -> None:
    ids = joined([[n % 9 + 1] * 7 for n in range(100)], True)
    streams = Streams(ids, 1, 799, seed=3, separator=SEPARATOR)
    window = streams.next().inputs[:, 0].numpy()
    expected = ShuffledDocuments(ids, SEPARATOR, seed=3)
    assert window.tolist() == expected[streams.offset + np.arange(len(window))].tolist()
    plain = Streams(ids, 1, 799, seed=3).next().inputs[:, 0].numpy()
    assert plain.tolist() == ids[streams.offset : streams.offset + len(plain)].tolist()
