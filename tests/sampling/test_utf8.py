"""The automaton accepts exactly what Python's strict UTF-8 decoder accepts."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.sampling.detokenizer import BOUNDARY, INVALID, TRANSITIONS, forbidden_ids


def accepted(data: bytes) -> bool:
    state = BOUNDARY
    for byte in data:
        state = TRANSITIONS[state][byte]
        if state == INVALID:
            return False
    return state == BOUNDARY


def decodes(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def test_every_character_is_accepted() -> None:
    for code in itertools.chain(range(0xD800), range(0xE000, 0x110000, 7), [0x10FFFF]):
        assert accepted(chr(code).encode())


def test_every_pair_and_edge_agrees_with_python() -> None:
    for pair in itertools.product(range(256), repeat=2):
        assert accepted(bytes(pair)) == decodes(bytes(pair))
    edges = [0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0]
    for first in range(0xC0, 0x100):
        for rest in itertools.product(edges, repeat=3):
            data = bytes([first, *rest])
            assert accepted(data) == decodes(data)
            assert accepted(data[:3]) == decodes(data[:3])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=12) | st.text(max_size=6).map(lambda t: t.encode(errors="replace")))
def test_any_bytes_agree_with_python(data: bytes) -> None:
    assert accepted(data) == decodes(data)


def test_symbols_are_forbidden_inside_a_character() -> None:
    mask = forbidden_ids(257)
    assert mask.shape == (8, 257)
    assert not mask[BOUNDARY, 256]
    assert mask[1:, 256].all()
    assert not mask.all(axis=1).any()
