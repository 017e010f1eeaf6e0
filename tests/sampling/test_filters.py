"""Filters keep a valid distribution for any logits, and do what their papers say."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from chargen.errors import ChargenError
from chargen.sampling import filters
from chargen.sampling.config import SamplingConfig
from chargen.sampling.filters import Uniforms, draw

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
small = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 3.0])  # many ties
excluded = st.just(-math.inf)


@st.composite
def logits(draw_: st.DrawFn, extra: st.SearchStrategy[float] = excluded) -> NDArray[Any]:
    """(B, V) float32 with at least one candidate a row."""
    size = draw_(st.integers(1, 90))
    value = draw_(st.sampled_from([finite, small, finite | extra, small | extra]))
    rows = draw_(
        st.lists(
            st.lists(value, min_size=size, max_size=size).filter(lambda r: max(r) > -math.inf),
            min_size=1,
            max_size=3,
        )
    )
    return np.array(rows, dtype=np.float32)


configs = st.builds(
    SamplingConfig,
    temperature=st.just(0.0) | st.floats(0, 1e300) | st.just(5e-324) | st.just(1.0),
    top_k=st.none() | st.integers(1, 100),
    top_p=st.none() | st.floats(0, 1, exclude_min=True),
    min_p=st.none() | st.floats(0, 1, exclude_max=True),
    repetition_penalty=st.just(1.0) | st.floats(1e-300, 1e300, exclude_min=True),
)


def kept(values: NDArray[Any]) -> NDArray[Any]:
    return values > -math.inf


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    x=logits(extra=st.just(-math.inf) | st.just(math.inf)),
    config=configs,
    u=st.floats(0, 1 - 2**-50),
    data=st.data(),
)
def test_any_combination_keeps_a_valid_distribution(
    x: NDArray[Any], config: SamplingConfig, u: float, data: st.DataObject
) -> None:
    rows, size = x.shape
    ids = st.integers(0, size - 1)
    recent = np.tile(data.draw(st.lists(ids, min_size=1, max_size=5)), (rows, 1))
    mask = np.zeros(size, dtype=np.bool_)
    mask[data.draw(st.lists(ids, max_size=3))] = True
    if not kept(filters.exclude(x, mask)).any(-1).all():
        mask[:] = False
    before = x.copy()
    filtered = filters.build_filter(config)(x, mask, recent)
    assert np.array_equal(x, before)
    assert kept(filtered).any(-1).all()
    assert not (kept(filtered) & (mask | (x == -math.inf))).any()
    probabilities = np.exp(filtered)
    assert np.isfinite(probabilities).all()
    assert (probabilities.max(-1) == 1).all()
    if config.top_k is not None or config.temperature == 0:
        limit = 1 if config.temperature == 0 else config.top_k
        assert (kept(filtered).sum(-1) <= limit).all()
    drawn = draw(filtered, np.full((rows, 1), u))
    assert (np.take_along_axis(probabilities, drawn[:, None], 1) > 0).all()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(x=logits(), k=st.integers(1, 100), p=st.floats(0.01, 1), q=st.floats(0, 0.99))
def test_against_plain_python(x: NDArray[Any], k: int, p: float, q: float) -> None:
    x = x.astype(np.float64)
    for row, by_k, by_p, by_min in zip(
        x.tolist(),
        kept(filters.keep_top_k(x, k)).tolist(),
        kept(filters.keep_top_p(x, p)).tolist(),
        kept(filters.keep_min_p(x, q)).tolist(),
        strict=True,
    ):
        candidates = [i for i in range(len(row)) if row[i] > -math.inf]
        order = sorted(candidates, key=lambda i: (-row[i], i))
        assert [i for i in candidates if by_k[i]] == sorted(order[:k])
        top = max(row)
        total = math.fsum(math.exp(row[i] - top) for i in candidates)
        nucleus = [i for i in candidates if by_p[i]]
        assert nucleus == sorted(order[: len(nucleus)])  # the likeliest, ties by id
        mass = math.fsum(math.exp(row[i] - top) for i in nucleus) / total
        last = math.exp(row[order[len(nucleus) - 1]] - top) / total
        assert mass >= p - 1e-9
        assert len(nucleus) == 1 or mass - last < p + 1e-9
        for i in candidates:
            if abs(row[i] - (top + math.log(q or 1e-300))) > 1e-6 * max(1, abs(top)):
                assert by_min[i] == (math.exp(row[i] - top) >= q)


def test_top_p_over_a_large_flat_vocabulary_needs_the_whole_sort() -> None:
    x = np.zeros((2, 1000))
    x[1, 7] = 50.0
    filtered = kept(filters.keep_top_p(x, 0.5))
    assert filtered[0].nonzero()[0].tolist() == list(range(500))
    assert filtered[1].nonzero()[0].tolist() == [7]


def test_repetition_penalty_is_that_of_ctrl() -> None:
    x = np.array([[2.0, -2.0, 1.0, -math.inf, 0.5]])
    out = filters.penalize_repetition(x, np.array([[0, 1, 1, 3, 4]]), 2.0)
    assert out.tolist() == [[1.0, -4.0, 1.0, -math.inf, 0.25]]


def test_no_repetition_is_never_or_certain_because_numbers_end() -> None:
    largest = np.finfo(np.float64).max
    x, recent = np.array([[1e300, -1e300]]), np.array([[0, 1]])
    with np.errstate(over="ignore"):
        assert filters.penalize_repetition(x, recent, 1e20).tolist() == [[1e280, -largest]]
        assert filters.penalize_repetition(x, recent, 1e-20).tolist() == [[largest, -1e280]]


def test_temperature() -> None:
    x = np.array([[1.0, 3.0, 3.0]])
    assert filters.scale_temperature(x, 2.0).tolist() == [[-1.0, 0.0, 0.0]]
    assert kept(filters.scale_temperature(x, 0)).tolist() == [[False, True, False]]


def test_infinite_logit_wins() -> None:
    x = np.array([[1.0, math.inf, 2.0, math.inf], [0.0, 1.0, 2.0, 3.0]])
    never = -math.inf
    assert filters.require_finite(x).tolist() == [[never, 0.0, never, 0.0], [0.0, 1.0, 2.0, 3.0]]
    out = filters.build_filter(SamplingConfig(temperature=1.0))(x, None, None)
    assert kept(out).tolist() == [[False, True, False, True], [True] * 4]
    expected = [-math.log(2), -math.log(sum(math.exp(-k) for k in range(4)))]
    assert filters.log_probability(x, np.array([1, 3])).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            [0.0, math.nan],
            "the model's predictions are not numbers (NaN): its training diverged",
        ),
        ([-math.inf, -math.inf], "every character that can be drawn has a probability of zero"),
    ],
)
def test_refused_logits(row: list[float], message: str) -> None:
    with pytest.raises(ChargenError) as caught:
        filters.build_filter(SamplingConfig())(np.array([row, [0.0, 1.0]]), None, None)
    assert str(caught.value) == message


def test_filters_are_applied_in_their_order() -> None:
    # Weights at temperature 1/2, where 0 is excluded and 1 was seen: 1, 2^-2, 2^-4, 2^-8.
    x = np.array([[9, 2, 1, 0, -2]]) * math.log(2)
    mask, recent = np.array([True, False, False, False, False]), np.array([[1]])

    def left(**options: Any) -> list[float]:
        config = SamplingConfig(**{"temperature": 0.5, "repetition_penalty": 1.0, **options})
        return (filters.build_filter(config)(x, mask, recent)[0] / math.log(2)).tolist()

    never = -math.inf
    assert left() == pytest.approx([never, 0, -2, -4, -8])
    assert left(repetition_penalty=2.0) == pytest.approx([never, 0, 0, -2, -6])
    assert left(top_k=3) == pytest.approx([never, 0, -2, -4, never])
    # Of the three that are left, the two likeliest have 20/21; of all four, 320/337.
    assert left(top_k=3, top_p=0.951) == pytest.approx([never, 0, -2, never, never])
    assert left(top_p=0.951) == pytest.approx([never, 0, -2, -4, never])
    assert left(min_p=0.06) == pytest.approx([never, 0, -2, -4, never])
    assert left(min_p=0.07, temperature=1.0) == pytest.approx([never, 0, -1, -2, never])
    assert left(temperature=0.0, min_p=0.5) == pytest.approx([never, 0, never, never, never])


@pytest.mark.parametrize(
    "options", [{"repetition_penalty": 1e-300}, {"temperature": 1e-300}, {"temperature": 0.0}]
)
def test_extreme_options_warn_of_nothing(options: dict[str, float]) -> None:
    apply = filters.build_filter(SamplingConfig(**options))
    with np.errstate(over="warn"), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kept(apply(np.array([[1e30, 1e30, -1e30]]), None, np.array([[0]])))[0, 0]


def test_the_edges_of_top_p_and_min_p() -> None:
    unlikely = np.array([[0.0, -100.0]])
    assert kept(filters.keep_top_p(unlikely, 1.0)).all()
    # One by one, weights of 5e-17 are lost beside 1; added up first they are not.
    assert kept(filters.keep_top_p(np.array([[0.0] + [-37.5] * 100]), 1 - 2**-53)).all()
    assert kept(filters.keep_min_p(unlikely, 0.0)).all()
    half = np.array([[0.0, math.log(0.5), math.log(0.499)]])
    assert kept(filters.keep_min_p(half, 0.5)).tolist() == [[True, True, False]]


def test_draws_follow_the_distribution() -> None:
    p = np.array([0.5, 0.0, 0.3, 0.2])
    uniforms = (np.arange(1000)[:, None] + 0.5) / 1000
    with np.errstate(divide="ignore"):
        logits = np.tile(np.log(p / p.max()), (1000, 1))
    drawn = draw(logits, uniforms)
    assert np.bincount(drawn, minlength=4).tolist() == [500, 0, 300, 200]
    edges = draw(np.array([[-math.inf, 0.0, 0.0]] * 2), np.array([[0.0], [0.5]]))
    assert edges.tolist() == [1, 2]


def test_log_probabilities_of_logits_of_any_size() -> None:
    x = np.array([[0.0, 1.0], [1e3, 1e3 + 1], [-1e3, -1e3 + 1]])
    expected = [-math.log1p(math.e)] * 2 + [1 - math.log1p(math.e)]
    assert filters.log_probability(x, np.array([0, 0, 1])) == pytest.approx(expected)


def test_uniforms_belong_to_their_stream() -> None:
    alone = Uniforms([5])
    together = Uniforms([4, 5, 6])
    expected = [next(alone).item() for _ in range(600)]
    got = [next(together)[1].item() for _ in range(300)]
    together.select([1])
    got += [next(together).item() for _ in range(300)]
    assert got == expected
    generator = torch.Generator().manual_seed(5)
    assert got[:256] == torch.rand(256, dtype=torch.float64, generator=generator).tolist()
