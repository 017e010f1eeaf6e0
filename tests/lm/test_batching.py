"""Streams are contiguous in time, and reading goes on exactly where it stood."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.lm.batching import Streams, Window


def counting(count: int) -> np.ndarray:
    """Each id is its own position, so a window says where it was read."""
    return np.arange(count, dtype=np.uint32)


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int, int, int, bool]:
    """(N, B, T, seed, jitter) for which each stream holds a window."""
    batch = draw(st.integers(1, 6))
    window = draw(st.integers(2, 20))
    count = batch * window + 1 + draw(st.integers(0, 150))
    return count, batch, window, draw(st.integers(0, 10)), draw(st.booleans())


def equal(first: Window, second: Window) -> bool:
    return (
        torch.equal(first.inputs, second.inputs)
        and torch.equal(first.targets, second.targets)
        and first.starts_epoch == second.starts_epoch
    )


@settings(max_examples=100, deadline=None, derandomize=True)
@given(sizes())
def test_windows_of_a_stream_follow_one_another(case: tuple[int, int, int, int, bool]) -> None:
    count, batch, window, seed, jitter = case
    streams = Streams(counting(count), batch, window, seed, jitter)
    last = None
    epochs = 0
    for number in range(40):
        piece = streams.next()
        assert piece.inputs.dtype == piece.targets.dtype == torch.int64
        length, width = piece.inputs.shape
        assert width == batch
        assert 1 <= length <= (window + window // 4 if jitter else window)
        assert int(piece.targets.max()) < count
        assert torch.equal(piece.targets, piece.inputs + 1)  # what follows each input
        assert torch.equal(piece.inputs, piece.inputs[:1] + torch.arange(length)[:, None])
        if number == 0:
            assert piece.starts_epoch
        if piece.starts_epoch:
            epochs += 1
            assert int(piece.inputs[0, 0]) < max(window, 2)  # the random offset lies below T
            gaps = piece.inputs[0].diff()  # all streams are of the same length
            assert gaps.numel() == 0 or bool((gaps == gaps[0]).all())
        else:
            assert torch.equal(piece.inputs[0], last)  # type: ignore[arg-type]
        last = piece.targets[-1]
        assert streams.epoch == epochs - 1


@settings(max_examples=60, deadline=None, derandomize=True)
@given(sizes())
def test_an_epoch_reads_nothing_twice_and_leaves_little(
    case: tuple[int, int, int, int, bool],
) -> None:
    count, batch, window, seed, jitter = case
    streams = Streams(counting(count), batch, window, seed, jitter)
    seen = [streams.next()]
    while True:
        piece = streams.next()
        if piece.starts_epoch:
            break
        seen.append(piece)
    read = torch.cat([piece.inputs.flatten() for piece in seen])
    assert len(read.unique()) == len(read)
    longest = window + window // 4
    # Lost are at most the offset, what B does not divide, and a window at each stream's end.
    assert len(read) >= count - 1 - window - batch - batch * longest
    if not jitter:
        assert abs(len(seen) - streams.windows_per_epoch) <= 1


@settings(max_examples=60, deadline=None, derandomize=True)
@given(sizes(), st.integers(0, 30))
def test_goes_on_exactly(case: tuple[int, int, int, int, bool], steps: int) -> None:
    count, batch, window, seed, jitter = case
    one = Streams(counting(count), batch, window, seed, jitter)
    for _ in range(steps):
        one.next()
    state, generator = dict(one.state()), one.generator.get_state()
    other = Streams(counting(count), batch, window, seed + 1, jitter)
    other.next()
    other.restore(state, generator)
    for _ in range(30):
        assert equal(one.next(), other.next())


def test_same_seed_same_windows_and_the_offset_varies() -> None:
    def firsts(seed: int) -> list[int]:
        streams = Streams(counting(2000), 2, 32, seed, False)
        found = []
        while len(found) < 8:
            piece = streams.next()
            if piece.starts_epoch:
                found.append(int(piece.inputs[0, 0]))
        return found

    assert firsts(0) == firsts(0)
    assert firsts(0) != firsts(1)
    assert len(set(firsts(0))) > 3


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    streams = Streams(counting(500), 2, 16, 0, True)
    for _ in range(40):
        streams.next()
    assert torch.equal(torch.get_rng_state(), before)


def test_jitter_varies_around_the_window() -> None:
    streams = Streams(counting(400_000), 4, 64, 0, True)
    lengths = [len(streams.next().inputs) for _ in range(600)]
    assert len(set(lengths)) > 10
    assert 58 < np.mean(lengths) < 66
    halves = np.mean([length < 45 for length in lengths])
    assert 0.01 < halves < 0.12
    assert max(lengths) <= 80
    assert {len(Streams(counting(900), 4, 64, 0, False).next().inputs)} == {64}


@pytest.mark.parametrize("jitter", [False, True])
@pytest.mark.parametrize(
    ("count", "batch", "window"), [(3, 1, 2), (5, 2, 2), (9, 4, 2), (33, 1, 32)]
)
def test_tiny_texts(count: int, batch: int, window: int, jitter: bool) -> None:
    streams = Streams(counting(count), batch, window, 0, jitter)
    assert streams.windows_per_epoch == 1
    for number in range(10):
        piece = streams.next()
        assert number or streams.epoch == 0  # the first pass is not left out
        assert torch.equal(piece.targets, piece.inputs + 1)
        assert int(piece.targets.max()) < count


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_memory_mapped(dtype: type, tmp_path: Path) -> None:
    ids = (np.arange(4000) % np.iinfo(np.uint8).max).astype(dtype)
    ids.tofile(tmp_path / "ids.bin")
    mapped = np.memmap(tmp_path / "ids.bin", dtype=dtype, mode="r")
    one, other = Streams(mapped, 3, 16, 0, False), Streams(ids, 3, 16, 0, False)
    for _ in range(100):
        assert equal(one.next(), other.next())


def test_large_ids_keep_their_value() -> None:
    ids = np.full(100, 4_000_000_000, dtype=np.uint32)
    assert int(Streams(ids, 2, 8, 0, False).next().inputs.max()) == 4_000_000_000


def test_a_stream_needs_two_ids() -> None:
    with pytest.raises(ValueError, match="7 ids cannot make 4 streams"):
        Streams(counting(7), 4, 2, 0)
    assert Streams(counting(8), 4, 2, 0).next().inputs.shape == (1, 4)


def test_lengths_are_those_of_the_seed() -> None:
    # A run that was begun by an earlier version goes on in the same windows.
    jittering = Streams(counting(5000), 2, 64, 3, True)
    lengths = [len(jittering.next().inputs) for _ in range(20)]
    assert lengths == [
        *(62, 71, 64, 59, 60, 66, 66, 69, 58, 73, 68, 67, 68, 68, 67, 65, 36, 66, 58, 61),
    ]
    steady = Streams(counting(5000), 2, 64, 3)
    assert {len(steady.next().inputs) for _ in range(20)} == {64}
    # A quarter more at most, and never one alone.
    for window, expected in ((3, {2, 3}), (4, {2, 3, 4, 5})):
        short = Streams(counting(5000), 2, window, 0, True)
        assert {len(short.next().inputs) for _ in range(1000)} == expected


def test_a_text_of_one_window_is_read_whole() -> None:
    streams = Streams(counting(17), 2, 8, 0)
    assert {len(streams.next().inputs) for _ in range(20)} == {8}
    assert Streams(counting(2 * 3 * 4 + 1), 2, 3, 0).windows_per_epoch == 4


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_numbers_stay_what_they_are(dtype: type) -> None:
    rows = np.arange(60, dtype=dtype).reshape(20, 3) / 8
    window = Streams(rows, 2, 4, 0).next()
    assert window.inputs.shape == (4, 2, 3)
    assert window.inputs.dtype == torch.float32
    assert torch.equal(window.targets, window.inputs + 3 / 8)


@pytest.mark.parametrize("name", ["epoch", "offset", "position"])
@pytest.mark.parametrize("value", [-1, True, 1.0, "0"])
def test_a_place_that_is_none_is_refused(name: str, value: object) -> None:
    streams = Streams(counting(100), 2, 8, 0)
    place = {**streams.state(), name: value}
    with pytest.raises(ValueError, match=f"{name} of the streams is {value!r}"):
        streams.restore(place, streams.generator.get_state())  # type: ignore[arg-type]


def test_a_place_beyond_the_text_is_refused() -> None:
    streams = Streams(counting(100), 2, 8, 0)
    state = streams.generator.get_state()
    streams.restore({"epoch": 0, "offset": 8, "position": 100}, state)
    for place in ({"offset": 9, "position": 0}, {"offset": 0, "position": 101}):
        with pytest.raises(ValueError, match="of the streams is"):
            streams.restore({"epoch": 0, **place}, state)
