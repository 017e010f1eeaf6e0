"""What a classifier is made of: members whose logits are added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from chargen.sentiment.batching import EncodedTexts, read_all, text_encodings
from chargen.sentiment.network import ClassifierNetwork
from chargen.text.vocabulary import Vocabulary


class Member(Protocol):
    """Logits of texts beyond the prior, as they are to be added: zeros say nothing of a text."""

    name: ClassVar[str]

    def logits(self, texts: Sequence[str]) -> Tensor:
        """(N, C) float32, on the CPU."""

    def trace(self, text: str) -> Tensor | None:
        """(len(text) + 1, C): of each beginning of the text; None where each is another text."""

    def to_tensors(self) -> dict[str, Tensor]:
        """For a checkpoint."""


class NetworkMember:
    """A network with the vocabularies of its encoders.

    Parameters
    ----------
    network : ClassifierNetwork
    vocabularies : sequence of Vocabulary
        One an encoder.
    prior : (C,), optional
        What its logits are taken relative to; with one, a text none of whose letters an encoder
        knows gets zeros.
    precision : {"float32", "bfloat16"}

    Attributes
    ----------
    network, vocabularies, prior, precision
        As given.
    encodings : list of TextEncoding
        How each encoder sees a text.
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

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.network.temperature.device

    def logits(self, texts: Sequence[str]) -> Tensor:
        encoded = EncodedTexts(texts, self.encodings)
        width = self.network.config.num_classes
        found = read_all(encoded, self.network.logits, width, self.device, self.precision)
        if self.prior is None:
            return found
        known = torch.tensor([self._knows(text) for text in texts], dtype=torch.bool)
        return torch.where(known[:, None], found - self._offset, 0.0)

    @property
    def _offset(self) -> Tensor:
        assert self.prior is not None
        return self.prior / self.network.temperature.cpu()

    def _knows(self, text: str) -> bool:
        """Whether an encoder knows a letter of it, or there is none."""
        letters = "".join(dict.fromkeys(filter(str.isalpha, text)))
        return not letters or any(
            len(encoding.vocabulary.encode_prompt(letters, "replace")[1]) < len(letters)
            for encoding in self.encodings
        )

    @torch.no_grad()
    def trace(self, text: str) -> Tensor | None:
        steps = []
        for encoding in self.encodings:
            if encoding.backward:  # every beginning of the text is another text
                return None
            ids = encoding.encode(text)
            # After how many symbols each character is whole: bytes of one character go together.
            if encoding.vocabulary.level == "byte":
                starts = encoding.vocabulary.character_starts(ids[1:])
                ends = np.append(starts, len(ids) - 1)
            else:
                ends = np.arange(len(ids))
            steps.append((torch.from_numpy(ids.astype(np.int64)).to(self.device), ends))
        if len({len(ids) for ids, _ in steps}) > 1:
            return None
        found = self.network.trace([ids for ids, _ in steps])[steps[0][1]].cpu()
        if self.prior is None:
            return found
        first = next((i for i, c in enumerate(text) if c.isalpha() and self._knows(c)), len(text))
        letters = np.cumsum([0, *(c.isalpha() for c in text)])
        known = torch.from_numpy((np.arange(len(text) + 1) > first) | (letters == 0))
        return torch.where(known[:, None], found - self._offset, 0.0)

    def to_tensors(self) -> dict[str, Tensor]:
        return {
            name: value.detach().cpu().clone()
            for name, value in self.network.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
