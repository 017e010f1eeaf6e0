"""A trained text classifier, which returns labels and probabilities."""

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
from chargen.options import check_argument
from chargen.runtime.device import choose_device
from chargen.runtime.precision import inference_precision
from chargen.sentiment import storage
from chargen.sentiment.config import ExamplesConfig
from chargen.sentiment.examples import read_examples
from chargen.sentiment.explain import Explanation, explain
from chargen.sentiment.members import Member, NetworkMember, NgramModel
from chargen.sentiment.network import BATCH_SYMBOLS, unknown_characters
from chargen.storage import checkpoint
from chargen.storage.checkpoint import Checkpoint
from chargen.storage.outputs import save_model
from chargen.text.given import given_text, given_texts
from chargen.text.html import clean_html

CHUNK_TEXTS = 2048
"""Number of texts that are read, sorted by length and classified together."""


class Classifier:
    """A trained text classifier with the interface of a scikit-learn classifier.

    Parameters
    ----------
    members : sequence of Member
        The models whose logits are added: a network, n-gram models, or both.
    labels : sequence of str
        Names of the classes, in the order of the probabilities.
    clean : {"html", None}
        How each text is cleaned before classification, as in training.
    prior : (C,) float32, optional
        Logits of a text that gives the members no information; zeros by default.
    stored : Checkpoint, optional
        The checkpoint from which the classifier was loaded.

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
        """Load a classifier from a checkpoint of `chargen.finetune`.

        Parameters
        ----------
        directory : path
        device : str
            ``auto``, the default of the command line, is a GPU if there is one.
        precision : {"float32", "bfloat16", "auto"}
            Precision of the matrix products; auto uses bfloat16 if it is faster. With bfloat16 the
            probabilities differ in the third digit.

        Raises
        ------
        CheckpointError
            If the checkpoint is missing, damaged, or of another kind.
        ConfigError
            If the device or precision does not exist, or the device does not support bfloat16.
        """
        stored = checkpoint.load(directory, storage.KIND)
        contents = storage.unpack(stored)
        torch_device = choose_device(device)
        for member in contents.members:
            if isinstance(member, NetworkMember):
                member.network.to(torch_device)
                member.precision = inference_precision(precision, torch_device)
        return cls(contents.members, contents.labels, contents.clean, contents.prior, stored)

    def save(self, directory: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write a checkpoint; options and errors are those of `LanguageModel.save`."""
        stored = storage.pack(self.members, self.labels, self.clean, self.prior)
        save_model(Path(directory), stored, self.checkpoint, force)

    @property
    def network(self) -> NetworkMember | None:
        """The network with its vocabularies, or None if the classifier has no network."""
        return next((member for member in self.members if isinstance(member, NetworkMember)), None)

    @property
    def ngrams(self) -> tuple[NgramModel, ...]:
        """The members that are n-gram models."""
        return tuple(member for member in self.members if isinstance(member, NgramModel))

    @property
    def parameters(self) -> int:
        """Number of learnt parameters: those of the network, and the weights of known n-grams."""
        count = sum(
            int(np.count_nonzero(model.weights)) + model.biases.size for model in self.ngrams
        )
        if self.network is not None:
            count += sum(tensor.numel() for tensor in self.network.network.parameters())
        return int(count)

    def require_network(self) -> NetworkMember:
        """Return the network with its vocabularies.

        Raises
        ------
        ConfigError
            If the classifier has no network because training left it out.
        """
        if self.network is None:
            raise ConfigError(
                "this classifier has no network, because n-grams alone were as good in "
                "training: train one with --no-ngrams"
            )
        return self.network

    # ---------------------------------------------------------------- texts

    def cleaned(self, text: str) -> str:
        """Return a text as the members read it: checked, and cleaned as in training."""
        text = given_text(text)
        return clean_html(text) if self.clean == "html" else text

    def unknown_characters(self, text: str, *, cleaned: bool = False) -> str:
        """Return the distinct characters of a text that an encoder has never seen.

        With `cleaned`, the text is not cleaned again.
        """
        vocabularies = self.network.vocabularies if self.network else ()
        text = given_text(text) if cleaned else self.cleaned(text)
        return unknown_characters(text, vocabularies)

    # ---------------------------------------------------------------- verdicts

    @property
    def classes_(self) -> NDArray[np.str_]:
        """The labels in the order of the probabilities, under the name that scikit-learn uses."""
        return np.array(self.labels)

    def predict(self, texts: Iterable[str]) -> list[str]:
        """Return the likeliest label of each text; see `predict_batches` for errors."""
        return [self.labels[i] for i in self.predict_proba(texts).argmax(-1)]

    def predict_proba(self, texts: Iterable[str], *, cleaned: bool = False) -> NDArray[np.float32]:
        """Return the probabilities of the labels, (N, C); each row sums to 1.

        The row of a text does not depend on the other texts, except for rounding. For `cleaned` and
        errors see `predict_batches`.
        """
        chunks = list(self.predict_batches(texts, cleaned=cleaned))
        return np.concatenate(chunks) if chunks else np.empty((0, len(self.labels)), np.float32)

    def score(self, texts: Iterable[str], labels: Iterable[Any]) -> float:
        """Return the accuracy: the share of texts whose likeliest label is the given label.

        Every given label must be one of `classes_`.
        """
        texts = list(given_texts(texts))
        examples = read_examples((texts, labels), ExamplesConfig(), self.labels)
        predicted = self.predict(texts)
        return float(np.mean(np.array(predicted) == np.array(examples.labels)))

    def predict_batches(
        self, texts: Iterable[str], chunk: int = CHUNK_TEXTS, *, cleaned: bool = False
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the probabilities of `chunk` texts at a time, in the order of the texts.

        Texts are taken from the iterable only when they are needed, so memory does not limit their
        number. With `cleaned`, they are not cleaned again, and empty texts are classified too.

        Raises
        ------
        CorpusError
            At the call, if `texts` is a single text. During iteration, if an item is empty or not a
            text; the message names its position.
        ConfigError
            At the call, if `chunk` is not a whole number, 1 or more.
        """
        check_argument("chunk", chunk, int, low=1)
        checked = given_texts(texts)
        ready = checked if cleaned else self._cleaned_texts(checked)
        chunks = iter(lambda: list(islice(ready, chunk)), [])
        return (
            self._softmax([member.logits(batch) for member in self.members]) for batch in chunks
        )

    def _cleaned_texts(self, texts: Iterable[str]) -> Iterator[str]:
        for index, text in enumerate(texts):
            clean = self.cleaned(text)
            if not clean.strip():
                raise CorpusError(f"texts[{index}] is empty: it cannot be classified")
            yield clean

    def _softmax(self, logits: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        """Add the logits of the members, (N, C) each, and the prior; return their softmax."""
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
            N is the number of characters of the cleaned text; row 0 is for the empty text. In a
            text of 2,000 characters or more, n-grams are not counted anew at each of them.
        """
        text = given_text(text) if cleaned else self.cleaned(text)
        traces = []
        for member in self.members:
            if (logits := member.trace(text)) is None:
                return self._prefix_probabilities(text)
            traces.append(logits)
        return self._softmax(traces)

    def explain(self, text: str, label: str | None = None) -> Explanation:
        """Explain how the verdict changes along a text; see `chargen.sentiment.explain.explain`."""
        return explain(self, text, label)

    def _prefix_probabilities(self, text: str) -> NDArray[np.float32]:
        size = max(1, BATCH_SYMBOLS // (len(text) + 1))
        texts = (text[:end] for end in range(len(text) + 1))
        return np.concatenate(list(self.predict_batches(texts, size, cleaned=True)))
