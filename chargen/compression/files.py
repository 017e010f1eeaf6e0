"""Compress a file with a model's probabilities, and restore it bit for bit.

    header, 52 bytes      magic, version, flags, streams, model, file, symbols, checksum
    code                  `chargen.compression.arithmetic`, in the order in which the model reads

The file is cut into `streams` parts, which the model reads in parallel. Each symbol is coded with
the model's distribution given the symbols before it in its part. A character outside the vocabulary
is coded as the unknown symbol, followed by its code point in `CODE_POINT_BITS` bits. A byte that is
not valid UTF-8 is coded likewise.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from chargen.compression.arithmetic import Decoder, Encoder, frequencies
from chargen.errors import ChargenError, CompressionError, ConfigError
from chargen.lm.evaluation import DYNAMIC_WINDOW, DynamicModel
from chargen.options import check_argument
from chargen.text.symbols import SEPARATOR
from chargen.text.vocabulary import code_points

if TYPE_CHECKING:
    from chargen.language_model import LanguageModel

MAGIC, VERSION = b"CGAC", 1
_HEADER = struct.Struct("<4sBBH16s16sQ")

CODE_POINT_BITS = 21
"""A code point is less than 2 ** 21."""

_CARRIAGE_RETURNS, _DYNAMIC = 1, 2
"""Flags: lines end in CR LF; the model adapts to the text that was coded."""

SYMBOLS_PER_STREAM, MOST_STREAMS = 65_536, 64
"""Symbols per part, and the most parts, if the number of parts is not given.

A part begins without context, which costs some 12 bytes: less than 0.1 %.
"""


def compress(
    lm: LanguageModel, data: bytes, streams: int | None = None, *, dynamic: bool = False
) -> bytes:
    """Compress a file, which `decompress` restores with the same model.

    Parameters
    ----------
    lm : LanguageModel
    data : bytes
        Any bytes; only text that resembles the model's training text becomes small.
    streams : int, optional
        Parts that are read in parallel: more are faster, but each costs some bytes. By default
        one per `SYMBOLS_PER_STREAM`. Raises `ConfigError` for what is no number from 1 to 65,535.
    dynamic : bool
        Adapt the parameters to the text that was coded (`chargen.lm.evaluation.DynamicModel`), in
        one stream.
    """
    ids, points, flags = _file_ids(lm, data)
    if dynamic:
        if streams not in (None, 1):
            raise ConfigError("--dynamic reads in one stream: leave --streams out")
        streams, flags = 1, flags | _DYNAMIC
    if streams is None:
        streams = min(MOST_STREAMS, max(1, len(ids) // SYMBOLS_PER_STREAM))
    check_argument("--streams", streams, int, low=1, most=0xFFFF)
    encoder = Encoder()

    def code(position: int, table: NDArray[np.int64]) -> int:
        symbol = int(ids[position])
        encoder.encode(int(table[:symbol].sum()), int(table[symbol]))
        if symbol == lm.vocabulary.unknown_id:
            encoder.encode(int(points[position]), 1, CODE_POINT_BITS)
        return symbol

    _code_symbols(lm, len(ids), streams, dynamic, code)
    body = encoder.finish()
    header = _HEADER.pack(MAGIC, VERSION, flags, streams, _model_hash(lm), _hash(data), len(ids))
    return header + _checksum(header + body) + body


def decompress(lm: LanguageModel, packed: bytes) -> bytes:
    """Restore a file from `compress`, byte for byte.

    Raises `CompressionError` if `packed` is not such a file, is damaged or was compressed with
    another model, or if this machine computes other probabilities than the one that compressed it.
    """
    size = _HEADER.size
    if packed[:4] != MAGIC or len(packed) < size + 4:
        raise CompressionError("it is not a file of chargen compress")
    _, version, flags, streams, model, digest, count = _HEADER.unpack_from(packed)
    body = packed[size + 4 :]
    if version != VERSION:
        raise CompressionError(f"it has version {version}, and this chargen reads {VERSION}")
    if packed[size : size + 4] != _checksum(packed[:size] + body):
        raise CompressionError("it is damaged: its checksum does not match")
    if model != _model_hash(lm):
        raise CompressionError("it was compressed with another model: give that model")
    decoder = Decoder(body)
    unknown = lm.vocabulary.unknown_id
    ids = np.empty(count, np.int64)
    points: dict[int, int] = {}

    def code(position: int, table: NDArray[np.int64]) -> int:
        ends = table.cumsum()
        symbol = int(ends.searchsorted(decoder.target(), "right"))
        decoder.advance(int(ends[symbol] - table[symbol]), int(table[symbol]))
        ids[position] = symbol
        if symbol == unknown:
            points[position] = decoder.target(CODE_POINT_BITS)
            decoder.advance(points[position], 1, CODE_POINT_BITS)
        return symbol

    _code_symbols(lm, count, streams, bool(flags & _DYNAMIC), code)
    data = _decoded_file(lm, ids, points, flags)
    if data is None or _hash(data) != digest:
        raise CompressionError(
            "the decoded file differs from the original: another version of torch or another "
            "processor computes other probabilities, so decompress it where it was compressed"
        )
    return data


# ---------------------------------------------------------------- files and symbols


def _file_ids(lm: LanguageModel, data: bytes) -> tuple[NDArray[Any], NDArray[Any], int]:
    """Return the ids in reading order, their code points (for models of characters), and flags."""
    vocabulary, flags = lm.vocabulary, 0
    carriage_returns = data.count(b"\r")
    if carriage_returns and carriage_returns == data.count(b"\n") == data.count(b"\r\n"):
        data, flags = data.replace(b"\r\n", b"\n"), _CARRIAGE_RETURNS
    text = data.decode(*_codec(lm))
    if end := _document_end(lm):
        text = text.replace(end, SEPARATOR)
    points = code_points(text).astype(np.int64)
    if vocabulary.level == "char":
        ids = vocabulary.encode(text)
    else:
        ids = np.where(points == ord(SEPARATOR), vocabulary.separator_id or 0, points)
    step = -1 if lm.backward else 1
    return ids[::step], points[::step], flags


def _decoded_file(
    lm: LanguageModel, ids: NDArray[np.int64], points: dict[int, int], flags: int
) -> bytes | None:
    """Return the file that the ids encode; None if there is no such file."""
    vocabulary = lm.vocabulary
    codes = ids.astype("<u4")
    if vocabulary.level == "char":
        characters = vocabulary.decode(np.arange(vocabulary.first_label_id))
        codes = code_points(characters).astype("<u4")[np.minimum(ids, len(characters) - 1)]
        codes[list(points)] = list(points.values())
    if vocabulary.separator_id is not None:
        codes[ids == vocabulary.separator_id] = ord(SEPARATOR)
    codes = codes[::-1] if lm.backward else codes
    try:
        text = codes.tobytes().decode("utf-32-le", "surrogatepass")
        data = text.replace(SEPARATOR, _document_end(lm)).encode(*_codec(lm))
    except UnicodeError:
        return None
    return data.replace(b"\n", b"\r\n") if flags & _CARRIAGE_RETURNS else data


def _codec(lm: LanguageModel) -> tuple[str, str]:
    """Return the codec and error mode to decode files: UTF-8, or one character per byte."""
    return ("utf-8", "surrogateescape") if lm.vocabulary.level == "char" else ("latin-1", "strict")


def _document_end(lm: LanguageModel) -> str:
    """Return the text that ends a document of the model, decoded as by `_codec`; "" for none.

    A model whose documents are lines has learnt the separator in place of the newline.
    """
    documents = lm.trained_reading.get("documents")
    if documents in (None, "files", "rows"):
        return ""
    end = {"lines": "\n", "blank-lines": "\n\n"}.get(documents, f"\n{documents}\n")
    return end.encode().decode(*_codec(lm))


# ---------------------------------------------------------------- stepping the model


def _code_symbols(
    lm: LanguageModel,
    count: int,
    streams: int,
    dynamic: bool,
    code: Callable[[int, NDArray[np.int64]], int],
) -> None:
    """Step a model along `count` symbols and code each of them with its frequencies.

    ``code(position, frequencies)`` codes and returns the symbol at `position`, which the model
    reads next.
    """
    with _one_thread():
        if dynamic:
            _code_adaptively(lm, count, code)
        elif count:
            _code_in_streams(lm, count, streams, code)


def _code_in_streams(
    lm: LanguageModel, count: int, streams: int, code: Callable[[int, NDArray[np.int64]], int]
) -> None:
    length = -(-count // streams)
    starts = range(0, count, length)
    decoder = lm.decoder.steered(None)
    decoder.state = lm.model.initial_state(len(starts))
    inputs = torch.full((len(starts),), lm.vocabulary.start_id, device=decoder.device)
    for step in range(length):
        with torch.no_grad():
            tables = _frequencies(decoder.step(inputs).cpu().numpy())
        for row, start in enumerate(starts):
            if start + step < count:
                inputs[row] = code(start + step, tables[row])


def _code_adaptively(
    lm: LanguageModel, count: int, code: Callable[[int, NDArray[np.int64]], int]
) -> None:
    adapting = DynamicModel(lm.model, lm.vocabulary.start_id)
    contexts = None if lm.counts is None else lm.counts.initial_contexts(1)
    for first in range(0, count, DYNAMIC_WINDOW):
        state, ids = adapting.state, [adapting.last_id]
        for position in range(first, min(count, first + DYNAMIC_WINDOW)):
            with torch.no_grad():
                inputs = torch.tensor([[ids[-1]]], device=lm.decoder.device)
                logits, state = adapting.model(inputs, state)
            table = logits[0].float().cpu().numpy()
            if lm.counts is not None and contexts is not None:
                contexts = lm.counts.advance(contexts, np.array(ids[-1:]))
                table = lm.counts.mix(table, contexts)
            ids.append(code(position, _frequencies(table)[0]))
        adapting.learn(np.array(ids[1:]))


def _frequencies(logits: NDArray[np.floating]) -> NDArray[np.int64]:
    if not np.isfinite(logits).all():
        raise ChargenError("the model's predictions are not numbers: its weights overflow")
    return frequencies(logits)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread, so that the order of summation does not depend on their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _model_hash(lm: LanguageModel) -> bytes:
    """Return a hash of all that the probabilities depend on, which excludes training options."""
    config = lm.model.config
    facts = [config.cell, config.direction, lm.vocabulary.to_json()]
    hasher = hashlib.sha256(json.dumps(facts).encode())
    for name, tensor in sorted(lm.model.state_dict().items()):
        hasher.update(f"{name} {list(tensor.shape)}".encode())
        hasher.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    if lm.counts is not None:
        hasher.update(f"counts {lm.counts.order} {lm.counts.weight}".encode())
        hasher.update(lm.counts.ids.astype("<i4").tobytes())
    end = _document_end(lm)
    hasher.update(bytes([end == "\n"]) + (end.encode() if len(end) > 1 else b""))
    return hasher.digest()[:16]


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:16]
