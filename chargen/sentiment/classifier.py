"""A trained classifier; it takes texts and returns labels and probabilities."""

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
from chargen.sentiment.config import ExamplesConfig
from chargen.sentiment.examples import read_examples
from chargen.sentiment.explain import Explanation, explain
from chargen.sentiment.members import Member, NetworkMember, NgramModel
from chargen.sentiment.network import BATCH_SYMBOLS
from chargen.storage import checkpoint
from chargen.storage.checkpoint import Checkpoint
from chargen.storage.outputs import save_model
from chargen.text.given import given_text, given_texts
from chargen.text.html import clean_html

CHUNK = 2048
"""Texts that are read, sorted by length and classified together."""


class Classifier:
    """A trained text classifier with the interface of a scikit-learn classifier.

    Parameters
    ----------
    members : sequence of Member
        The parts whose logits are added: a network, n-grams, or both.
    labels : sequence of str
        Names of the classes, in the order of the probabilities.
    clean : {"html", None}
        How each text is cleaned first, as in training.
    prior : (C,) float32, optional
        Logits of a text without any information for the members; zeros by default.
    stored : Checkpoint, optional
        The checkpoint that it was loaded from.

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
            Precision of the matrix products; auto uses bfloat16 if it is faster. Probabilities then
            differ in their third digit.

        Raises
        ------
        CheckpointError
            If the checkpoint is missing, damaged, or of another kind.
        ConfigError
            If there is no such device, or it has no bfloat16.
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
        """The network and its vocabularies; None if it is not a member."""
        return next((each for each in self.members if isinstance(each, NetworkMember)), None)

    @property
    def ngrams(self) -> tuple[NgramModel, ...]:
        """The members that count n-grams."""
        return tuple(each for each in self.members if isinstance(each, NgramModel))

    @property
    def parameters(self) -> int:
        """Number of learnt parameters, including those of the encoders, without the counted idf."""
        count = sum(each.weights.size + each.biases.size for each in self.ngrams)
        if self.network is not None:
            count += sum(each.numel() for each in self.network.network.parameters())
        return int(count)

    def require_network(self) -> NetworkMember:
        """The network.

        Raises
        ------
        ConfigError
            If the network is not a member and was therefore not saved.
        """
        if self.network is None:
            raise ConfigError(
                "this classifier has no network, because n-grams alone were as good in "
                "training: train one with --no-ngrams"
            )
        return self.network

    # ---------------------------------------------------------------- texts

    def cleaned(self, text: str) -> str:
        """The text as the members read it."""
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
        """The labels under the name that scikit-learn uses, in the order of the probabilities."""
        return np.array(self.labels)

    def predict(self, texts: Iterable[str]) -> list[str]:
        """Return the likeliest label of each text; see `predict_batches` for errors."""
        return [self.labels[i] for i in self.predict_proba(texts).argmax(-1)]

    def predict_proba(self, texts: Iterable[str], *, cleaned: bool = False) -> NDArray[np.float32]:
        """Return probabilities of the labels, (N, C); each row sums to 1. See `predict_batches`.

        The row of a text does not depend on the other texts (except for rounding).
        """
        chunks = list(self.predict_batches(texts, cleaned=cleaned))
        return np.concatenate(chunks) if chunks else np.empty((0, len(self.labels)), np.float32)

    def score(self, texts: Iterable[str], labels: Iterable[Any]) -> float:
        """Return the accuracy: the share of texts whose likeliest label is the given one.

        Every given label must be one of `classes_`.
        """
        texts = list(given_texts(texts))
        given = read_examples((texts, labels), ExamplesConfig(), self.labels)
        found = self.predict(texts)
        return float(np.mean(np.array(found) == np.array(given.labels)))

    def predict_batches(
        self, texts: Iterable[str], chunk: int = CHUNK, *, cleaned: bool = False
    ) -> Iterator[NDArray[np.float32]]:
        """Yield probabilities of `chunk` texts at a time, in their order.

        Texts are taken from the iterable when they are needed, so their number is not limited by
        memory. With `cleaned` they have already been cleaned, and empty texts are judged too.

        Raises
        ------
        CorpusError
            For a single text instead of several, at the call. For an item that is empty or not a
            text, when it is reached; the message names its position.
        """
        found = given_texts(texts)
        ready = found if cleaned else self._each_cleaned(found)
        chunks = iter(lambda: list(islice(ready, chunk)), [])
        return (self._softmax([each.logits(some) for each in self.members]) for some in chunks)

    def _each_cleaned(self, texts: Iterable[str]) -> Iterator[str]:
        for place, text in enumerate(texts):
            clean = self.cleaned(text)
            if not clean.strip():
                raise CorpusError(f"texts[{place}] is empty: it cannot be classified")
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
        """Return the probabilities that the text would get if it ended after each character.

        Returns
        -------
        (N + 1, C) float32
            N is the number of characters of the cleaned text; row 0 is for the empty text.
        """
        text = given_text(text) if cleaned else self.cleaned(text)
        traces = []
        for member in self.members:
            if (found := member.trace(text)) is None:
                return self._prefixes(text)
            traces.append(found)
        return self._softmax(traces)

    def explain(self, text: str, label: str | None = None) -> Explanation:
        """Explain how the verdict changes along a text; see `chargen.sentiment.explain.explain`."""
        return explain(self, text, label)

    def _prefixes(self, text: str) -> NDArray[np.float32]:
        size = max(1, BATCH_SYMBOLS // (len(text) + 1))
        texts = (text[:end] for end in range(len(text) + 1))
        return np.concatenate(list(self.predict_batches(texts, size, cleaned=True)))
