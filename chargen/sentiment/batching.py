"""How a network reads texts: as ids, in batches of texts of like length.

So it is a member of a classifier, whose members' logits are added.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chargen.runtime.precision import autocast
from chargen.sentiment.network import ClassifierNetwork, EncoderInput
from chargen.text.vocabulary import Vocabulary

_NO_TEXT = re.compile("[\ud800-\udfff]")
"""Lone surrogates: they have no bytes, and one of them stands for the end of a document."""

ENOUGH = 16
"""Texts of a batch that keep a matrix product busy."""

LIKE = 0.75
"""Share of the longest length that a text must have to join a batch that has enough."""

POOL = 32
"""Batches that are sorted by length together: long enough to save padding, short enough to mix."""


def readable(text: str) -> str:
    """The text with U+FFFD for what no vocabulary can encode, or takes for something else."""
    return text if text.isascii() else _NO_TEXT.sub("\ufffd", text)


BATCH_SIZE = 128
BATCH_SYMBOLS = 1 << 20
"""Most texts of a batch that is only read, and most symbols with padding: eight bytes each."""


@dataclass(frozen=True)
class TextEncoding:
    """How one encoder sees a text: its vocabulary and its direction."""

    vocabulary: Vocabulary
    backward: bool

    def encode(self, text: str) -> NDArray[Any]:
        """Ids of the start symbol and the text, in the order of reading."""
        ids = self.vocabulary.encode(readable(text))
        start = np.array([self.vocabulary.start_id], ids.dtype)
        return np.concatenate([start, ids[::-1] if self.backward else ids])

    def whole(self, ids: NDArray[Any]) -> NDArray[np.int64]:
        """At which of these steps each character of the text is whole, and the last of them.

        Bytes of one character go together. Read from the end, a character has all behind it.
        """
        text = ids[1:][::-1] if self.backward else ids[1:]
        count = len(text)
        byte = self.vocabulary.level == "byte"
        starts = self.vocabulary.character_starts(text) if byte else np.arange(count)
        ends: NDArray[np.int64] = np.append(starts, count)
        return count - ends if self.backward else ends


def text_encodings(
    network: ClassifierNetwork, vocabularies: Sequence[Vocabulary]
) -> list[TextEncoding]:
    return [
        TextEncoding(vocabulary, encoder.config.direction == "backward")
        for encoder, vocabulary in zip(network.lm_encoders(), vocabularies, strict=True)
    ]


class EncodedTexts:
    """Texts as each encoder reads them."""

    def __init__(self, texts: Iterable[str], encodings: Sequence[TextEncoding]) -> None:
        self.encodings = list(encodings)
        self.ids = [[encoding.encode(text) for encoding in encodings] for text in texts]
        self.lengths = np.array([max(map(len, ids)) for ids in self.ids], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def inputs(self, indices: Sequence[int], device: torch.device | str) -> list[EncoderInput]:
        """A batch of the texts at `indices`, padded at the end."""
        return [
            _padded([self.ids[i][which] for i in indices], encoding.vocabulary.start_id, device)
            for which, encoding in enumerate(self.encodings)
        ]


def _padded(texts: Sequence[NDArray[Any]], filler: int, device: torch.device | str) -> EncoderInput:
    lengths = [len(ids) for ids in texts]
    block = np.full((max(lengths), len(texts)), filler, dtype=np.int64)  # (T, B)
    for column, ids in enumerate(texts):
        block[: len(ids), column] = ids
    return EncoderInput(
        torch.from_numpy(block).to(device), torch.tensor(lengths, dtype=torch.int64, device=device)
    )


def shuffled_batches(
    lengths: NDArray[np.int64], batch_size: int, generator: torch.Generator
) -> list[list[int]]:
    """One epoch in random order: every text once, in batches of texts of like length.

    No batch has a single text (batch normalisation needs two) unless there is but one.
    """
    order = torch.randperm(len(lengths), generator=generator).numpy()
    batches: list[list[int]] = []
    for first in range(0, len(order), batch_size * POOL):
        pool = order[first : first + batch_size * POOL]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[i : i + batch_size].tolist() for i in range(0, len(pool), batch_size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        alone = batches.pop()
        batches[-1] += alone
    mixed = torch.randperm(len(batches), generator=generator).tolist()
    return [batches[i] for i in mixed]


def sorted_batches(
    lengths: NDArray[np.int64], batch_size: int, symbols: int
) -> Iterator[list[int]]:
    """Every text once, longest first, at most `batch_size` texts and `symbols` with padding.

    A batch of `ENOUGH` texts takes no more that are much shorter than its longest. Longest first,
    so that what needs most memory is tried before the work, not after it.
    """
    batch: list[int] = []
    for index in np.argsort(-lengths, kind="stable").tolist():
        if batch:
            longest = lengths[batch[0]]
            full = len(batch) == batch_size or (len(batch) + 1) * longest > symbols
            if full or (len(batch) >= ENOUGH and lengths[index] < LIKE * longest):
                yield batch
                batch = []
        batch.append(index)
    if batch:
        yield batch


@torch.no_grad()
def read_all(
    encoded: EncodedTexts,
    function: Callable[[list[EncoderInput]], Tensor],
    width: int,
    device: torch.device,
    precision: str,
) -> Tensor:
    """What a function of batches gives for all texts, in their order: (N, width) float32, CPU."""
    found = torch.empty(len(encoded), width)
    for batch in sorted_batches(encoded.lengths, BATCH_SIZE, BATCH_SYMBOLS):
        with autocast(device, precision):
            some = function(encoded.inputs(batch, device))
        found[batch] = some.float().cpu()
    return found


def pooled_features(
    network: ClassifierNetwork, encoded: EncodedTexts, precision: str = "float32"
) -> NDArray[np.float32]:
    """What goes into the head of each text: (N, F) float32."""
    network.eval()
    width = network.head.num_features
    found = read_all(encoded, network.features, width, network.device, precision)
    return found.numpy()


class NetworkMember:
    """A network as a member of a classifier: texts in, logits out.

    Parameters
    ----------
    network : ClassifierNetwork
    vocabularies : sequence of Vocabulary
        One an encoder.
    prior : (C,), optional
        What its logits are taken relative to; with one, a text none of whose letters an encoder
        knows gets zeros.
    precision : {"float32", "bfloat16"}
    """

    name: ClassVar[str] = "network"

    def __init__(
        self,
        network: ClassifierNetwork,
        vocabularies: Sequence[Vocabulary],
        prior: Tensor | None = None,
        precision: str = "float32",
    ) -> None:
        self.network = network.eval()
        self.vocabularies = tuple(vocabularies)
        self.prior = prior
        self.precision = precision
        self.encodings = text_encodings(network, vocabularies)

    def logits(self, texts: Sequence[str]) -> Tensor:
        """Logits of texts beyond the prior, (N, C) float32, on the CPU: zeros say nothing."""
        encoded = EncodedTexts(texts, self.encodings)
        width = self.network.config.num_classes
        found = read_all(encoded, self.network.logits, width, self.network.device, self.precision)
        if self.prior is None:
            return found
        known = torch.tensor([self._knows(text) for text in texts], dtype=torch.bool)
        return self._beyond(self.prior, found, known)

    def _beyond(self, prior: Tensor, logits: Tensor, known: Tensor) -> Tensor:
        """Logits (N, C) less the prior, both calibrated; zeros where nothing is `known` (N,)."""
        return torch.where(known[:, None], logits - prior / self.network.temperature.cpu(), 0.0)

    def _knows(self, text: str) -> bool:
        """Whether an encoder knows a letter of it, or there is none."""
        letters = "".join(dict.fromkeys(filter(str.isalpha, text)))
        return not letters or any(
            len(encoding.vocabulary.encode_prompt(letters, "replace")[1]) < len(letters)
            for encoding in self.encodings
        )

    @torch.no_grad()
    def trace(self, text: str) -> Tensor | None:
        """Those of each beginning of the text, (N + 1, C); None where each is a text of its own."""
        ids = [encoding.encode(text) for encoding in self.encodings]
        # Read from the end, every beginning of the text is another text.
        if any(each.backward for each in self.encodings) or len(set(map(len, ids))) > 1:
            return None
        steps = [torch.from_numpy(each.astype(np.int64)).to(self.network.device) for each in ids]
        found = self.network.trace(steps)[self.encodings[0].whole(ids[0])].cpu()
        if self.prior is None:
            return found
        first = next((i for i, c in enumerate(text) if c.isalpha() and self._knows(c)), len(text))
        letters = np.cumsum([0, *(c.isalpha() for c in text)])
        known = torch.from_numpy((np.arange(len(text) + 1) > first) | (letters == 0))
        return self._beyond(self.prior, found, known)
