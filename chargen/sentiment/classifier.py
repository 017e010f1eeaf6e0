"""A trained classifier: texts in, labels and probabilities out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from chargen.errors import ChargenError, ConfigError, CorpusError
from chargen.runtime.device import choose_device
from chargen.runtime.precision import reading_precision
from chargen.sentiment import storage
from chargen.sentiment.batching import BATCH_SYMBOLS, NetworkMember
from chargen.sentiment.config import ExamplesConfig
from chargen.sentiment.examples import read_examples
from chargen.sentiment.explain import Explanation, explain
from chargen.sentiment.ngrams import NgramModel
from chargen.sentiment.storage import Member
from chargen.storage import checkpoint
from chargen.storage.checkpoint import Checkpoint
from chargen.storage.outputs import save_model
from chargen.text.given import given_text, given_texts
from chargen.text.html import clean_html

CHUNK = 2048
"""Texts that are read, sorted by length and classified together."""


class Classifier:
    """A trained text classifier, with the interface of scikit-learn's.

    Parameters
    ----------
    members : sequence of Member
        Their logits are added: a network, n-grams, or both.
    labels : sequence of str
        Names of the classes, in the order of the probabilities.
    clean : {"html", None}
        What is done to each text first, as in training.
    prior : (C,) float32, optional
        Logits of a text of which no member knows anything; zeros by default.
    stored : Checkpoint, optional
        Where all of it came from.

    Examples
    --------
    >>> mood = Classifier.load("checkpoints/sentiment")  # doctest: +SKIP
    >>> mood.predict(["A quiet, wonderful film."])  # doctest: +SKIP
    ['pos']
    """

    def __init__(
        self,
        members: Sequence[Member],
        labels: Sequence[str],
        clean: str | None = None,
        prior: torch.Tensor | None = None,
        stored: Checkpoint | None = None,
    ) -> None:
        self.members = tuple(members)
        self.labels = tuple(labels)
        self.clean = clean
        self.prior = prior
        self.checkpoint = stored

    @classmethod
    def load(
        cls, directory: str | os.PathLike[str], device: str = "cpu", precision: str = "float32"
    ) -> Classifier:
        """Read a checkpoint of `chargen.finetune`.

        Parameters
        ----------
        directory : path
        device : str
        precision : {"float32", "bfloat16", "auto"}
            Of the products; auto takes bfloat16 where it is faster. A probability then differs in
            its third digit.

        Raises
        ------
        CheckpointError
            Where it is missing, damaged, or of another kind.
        ConfigError
            Where there is no such device, or no bfloat16.
        """
        stored = checkpoint.load(directory, storage.KIND)
        found = storage.unpack(stored)
        place = choose_device(device)
        for member in found.members:
            if isinstance(member, NetworkMember):
                member.network.to(place)
                member.precision = reading_precision(precision, place)
        return cls(found.members, found.labels, found.clean, found.prior, stored)

    def save(self, directory: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write a checkpoint, as `LanguageModel.save` does."""
        stored = storage.pack(self.members, self.labels, self.clean, self.prior)
        save_model(Path(directory), stored, self.checkpoint, force)

    @property
    def network(self) -> NetworkMember | None:
        """The network and its vocabularies; None where it does not vote."""
        return next((each for each in self.members if isinstance(each, NetworkMember)), None)

    @property
    def ngrams(self) -> tuple[NgramModel, ...]:
        """The members that count."""
        return tuple(each for each in self.members if isinstance(each, NgramModel))

    @property
    def parameters(self) -> int:
        """Numbers that were learnt, those of the encoders among them; idf was counted."""
        count = sum(each.weights.size + each.biases.size for each in self.ngrams)
        if self.network is not None:
            count += sum(each.numel() for each in self.network.network.parameters())
        return int(count)

    def require_network(self) -> NetworkMember:
        """The network.

        Raises
        ------
        ConfigError
            Where it does not vote, and so was not kept.
        """
        if self.network is None:
            raise ConfigError(
                "this classifier has no network: n-grams alone did as well in training, and the "
                "language model was left out; train one with --no-ngrams"
            )
        return self.network

    # ---------------------------------------------------------------- texts

    def cleaned(self, text: str) -> str:
        """The text as the members are to read it."""
        text = given_text(text)
        return clean_html(text) if self.clean == "html" else text

    def unknown_characters(self, text: str) -> str:
        """The distinct characters of a text that the encoder has never seen."""
        encodings = self.network.encodings if self.network else ()
        found = (
            encoding.vocabulary.encode_prompt(self.cleaned(text), "replace")
            for encoding in encodings
        )
        return "".join(dict.fromkeys(c for _, unknown in found for c in unknown))

    # ---------------------------------------------------------------- verdicts

    @property
    def classes_(self) -> NDArray[np.str_]:
        """The labels as scikit-learn names them, in the order of the probabilities."""
        return np.array(self.labels)

    def predict(self, texts: Iterable[str]) -> list[str]:
        """The likeliest label of each text; see `predict_batches` for what is refused."""
        return [self.labels[i] for i in self.predict_proba(texts).argmax(-1)]

    def predict_proba(self, texts: Iterable[str], *, cleaned: bool = False) -> NDArray[np.float32]:
        """Probabilities of the labels, (N, C); each row sums to 1. See `predict_batches`.

        A text's row does not depend on the other texts (but for the rounding of a sum).
        """
        chunks = list(self.predict_batches(texts, cleaned=cleaned))
        return np.concatenate(chunks) if chunks else np.empty((0, len(self.labels)), np.float32)

    def score(self, texts: Iterable[str], labels: Iterable[Any]) -> float:
        """Share of the texts whose likeliest label is the given one; each must be known."""
        texts = list(given_texts(texts))
        given = read_examples((texts, labels), ExamplesConfig(), self.labels)
        found = self.predict(texts)
        return float(np.mean(np.array(found) == np.array(given.labels)))

    def predict_batches(
        self, texts: Iterable[str], chunk: int = CHUNK, *, cleaned: bool = False
    ) -> Iterator[NDArray[np.float32]]:
        """Probabilities of `chunk` texts at a time, in their order.

        Texts are taken from the iterable as they are needed: any number fits in memory.

        With `cleaned` they are as `cleaned` gives them, and empty ones among them are judged too.

        Raises
        ------
        CorpusError
            For a single text in the place of several; when it comes up, for what is empty or no
            text, with its position.
        """
        found = given_texts(texts)
        ready = found if cleaned else self._each_cleaned(found)
        chunks = iter(lambda: list(islice(ready, chunk)), [])
        return (self._softmax([each.logits(some) for each in self.members]) for some in chunks)

    def _each_cleaned(self, texts: Iterable[str]) -> Iterator[str]:
        for place, text in enumerate(texts):
            clean = self.cleaned(text)
            if not clean.strip():
                raise CorpusError(f"texts[{place}] is empty: there is nothing to judge")
            yield clean

    def _softmax(self, logits: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        """Of the sum of what the members say, (N, C) each."""
        summed = sum(logits[1:], logits[0])
        if self.prior is not None:
            summed = summed + self.prior
        if not torch.isfinite(summed).all():
            raise ChargenError("the classifier's predictions are not numbers: its weights overflow")
        probabilities: NDArray[np.float32] = summed.softmax(-1).numpy()
        return probabilities

    def trace(self, text: str, *, cleaned: bool = False) -> NDArray[np.float32]:
        """Probabilities had the text ended after each of its characters.

        Returns
        -------
        (N + 1, C) float32
            Of the N characters of the text as cleaned, here or before; row 0 has read nothing.
        """
        text = given_text(text) if cleaned else self.cleaned(text)
        traces = []
        for member in self.members:
            if (found := member.trace(text)) is None:
                return self._prefixes(text)
            traces.append(found)
        return self._softmax(traces)

    def explain(self, text: str, label: str | None = None) -> Explanation:
        """How the verdict moves along a text; see `chargen.sentiment.explain.explain`."""
        return explain(self, text, label)

    def _prefixes(self, text: str) -> NDArray[np.float32]:
        size = max(1, BATCH_SYMBOLS // (len(text) + 1))
        texts = (text[:end] for end in range(len(text) + 1))
        return np.concatenate(list(self.predict_batches(texts, size, cleaned=True)))
