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

from chargen.errors import ChargenError, CorpusError
from chargen.runtime.device import choose_device
from chargen.runtime.precision import reading_precision
from chargen.sentiment import storage
from chargen.sentiment.batching import BATCH_SYMBOLS, EncodedTexts, eyes_of, read_all
from chargen.sentiment.config import ExamplesConfig
from chargen.sentiment.examples import read_examples
from chargen.sentiment.explain import Explanation, explain
from chargen.sentiment.network import ClassifierNetwork
from chargen.sentiment.ngrams import NgramModel
from chargen.storage import checkpoint
from chargen.storage.checkpoint import Checkpoint
from chargen.storage.outputs import save_model
from chargen.text.given import given_text, given_texts
from chargen.text.html import clean_html
from chargen.text.vocabulary import Vocabulary

CHUNK = 2048
"""Texts that are read, sorted by length and classified together."""

TRACED = 2000
"""Beginnings of a text whose n-grams are counted for a trace; each takes as long as it is long."""


class Classifier:
    """A trained text classifier, with the interface of scikit-learn's.

    Parameters
    ----------
    network : ClassifierNetwork
    vocabularies : sequence of Vocabulary
        One an encoder.
    labels : sequence of str
        Names of the classes, in the order of the probabilities.
    clean : {"html", None}
        What is done to each text first, as in training.
    stored : Checkpoint, optional
        Where all of it came from.
    ngrams : NgramModel, optional
        Its logits are added to the network's.

    Examples
    --------
    >>> mood = Classifier.load("checkpoints/sentiment")  # doctest: +SKIP
    >>> mood.predict(["A quiet, wonderful film."])  # doctest: +SKIP
    ['pos']
    """

    def __init__(
        self,
        network: ClassifierNetwork,
        vocabularies: Sequence[Vocabulary],
        labels: Sequence[str],
        clean: str | None = None,
        stored: Checkpoint | None = None,
        ngrams: NgramModel | None = None,
    ) -> None:
        self.network = network.eval()
        self.vocabularies = tuple(vocabularies)
        self.labels = tuple(labels)
        self.clean = clean
        self.checkpoint = stored
        self.ngrams = ngrams
        self.precision = "float32"
        self.eyes = eyes_of(network, vocabularies)

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
        network, vocabularies, labels, clean = storage.unpack(stored)
        place = choose_device(device)
        ngrams = storage.unpack_ngrams(stored, len(labels))
        classifier = cls(network.to(place), vocabularies, labels, clean, stored, ngrams)
        classifier.precision = reading_precision(precision, place)
        return classifier

    def save(self, directory: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write a checkpoint, as `LanguageModel.save` does."""
        weights = storage.weights_of(self.network)
        stored = storage.pack(
            self.network, weights, self.vocabularies, self.labels, self.clean, self.ngrams
        )
        save_model(Path(directory), stored, self.checkpoint, force)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.network.temperature.device

    # ---------------------------------------------------------------- texts

    def cleaned(self, text: str) -> str:
        """The text as the network is to read it."""
        text = given_text(text)
        return clean_html(text) if self.clean == "html" else text

    def unknown_characters(self, text: str) -> str:
        """The distinct characters of a text that the encoder has never seen."""
        found = (eye.vocabulary.encode_prompt(self.cleaned(text), "replace") for eye in self.eyes)
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
        return self._batches(found if cleaned else self._each_cleaned(found), chunk)

    def _each_cleaned(self, texts: Iterable[str]) -> Iterator[str]:
        for place, text in enumerate(texts):
            clean = self.cleaned(text)
            if not clean.strip():
                raise CorpusError(f"texts[{place}] is empty: there is nothing to judge")
            yield clean

    def _batches(self, texts: Iterator[str], chunk: int) -> Iterator[NDArray[np.float32]]:
        while some := list(islice(texts, chunk)):
            yield self._probabilities(some)

    def _probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Of texts that are cleaned already."""
        encoded = EncodedTexts(texts, self.eyes)
        logits = read_all(
            encoded, self.network.logits, len(self.labels), self.device, self.precision
        )
        if self.ngrams is not None:
            logits += torch.from_numpy(self.ngrams.logits(texts))
        if not torch.isfinite(logits).all():
            raise ChargenError("the classifier's predictions are not numbers: its weights overflow")
        probabilities: NDArray[np.float32] = logits.softmax(-1).numpy()
        return probabilities

    @torch.no_grad()
    def trace(self, text: str, *, cleaned: bool = False) -> NDArray[np.float32]:
        """Probabilities had the text ended after each of its characters.

        Returns
        -------
        (N + 1, C) float32
            Of the N characters of the text as cleaned, here or before; row 0 has read nothing.
        """
        text = given_text(text) if cleaned else self.cleaned(text)
        if any(eye.backward for eye in self.eyes):
            # Read from the end, every beginning of the text is another text.
            return self._prefixes(text)
        steps = []
        for eye in self.eyes:
            ids = eye.encode(text)
            # After how many symbols each character is whole: bytes of one character go together.
            if eye.vocabulary.level == "byte":
                starts = eye.vocabulary.character_starts(ids[1:])
                ends = np.append(starts, len(ids) - 1)
            else:
                ends = np.arange(len(ids))
            steps.append((torch.from_numpy(ids.astype(np.int64)).to(self.device), ends))
        if len({len(ids) for ids, _ in steps}) == 1:
            logits = self.network.trace([ids for ids, _ in steps])[steps[0][1]].cpu()
            if self.ngrams is not None:
                logits = logits + torch.from_numpy(self._ngram_trace(text, self.ngrams))
            probabilities: NDArray[np.float32] = logits.softmax(-1).numpy()
            return probabilities
        return self._prefixes(text)

    @staticmethod
    def _ngram_trace(text: str, ngrams: NgramModel) -> NDArray[np.float32]:
        """(len(text) + 1, C): of each beginning of the text, or each k-th one of a long text."""
        ends = np.arange(len(text) + 1)
        stride = 1 + len(text) // TRACED
        looked_at = np.append(ends[:-1:stride], len(text))
        found = ngrams.logits(text[:end] for end in looked_at.tolist())
        return found[np.searchsorted(looked_at, ends, "right") - 1]

    def explain(self, text: str, label: str | None = None) -> Explanation:
        """How the verdict moves along a text; see `chargen.sentiment.explain.explain`."""
        return explain(self, text, label)

    def _prefixes(self, text: str) -> NDArray[np.float32]:
        size = max(1, BATCH_SYMBOLS // (len(text) + 1))
        ends = range(len(text) + 1)
        return np.concatenate(
            [
                self._probabilities([text[:end] for end in some])
                for some in (ends[first : first + size] for first in range(0, len(ends), size))
            ]
        )
