"""One way to fit all of the textbook's systems, and to ask them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from chargen.errors import ConfigError
from chargen.runtime.device import choose_device
from chargen.sentiment import metrics
from chargen.sentiment.baselines import tfidf
from chargen.sentiment.baselines.config import NETWORKS, TFIDF, WordConfig
from chargen.sentiment.baselines.networks import WordClassifier
from chargen.sentiment.baselines.training import Encoded, train_network
from chargen.sentiment.baselines.vectors import WordVectors, read_vectors
from chargen.sentiment.baselines.words import SPECIAL, WordVocabulary, pad, tokenise
from chargen.sentiment.batching import sorted_batches
from chargen.sentiment.examples import Examples
from chargen.training.reporting import Reporter

EMBEDDING_SIZE = 100
CHUNK = 2048
"""Texts that are tokenised, sorted by length and classified together."""

BATCH_SIZE = 256
BATCH_WORDS = 1 << 18
"""Most texts of a batch in prediction, and most words with padding."""


class Baseline(Protocol):
    """A text classifier that can be fitted.

    Attributes
    ----------
    classes : tuple of str
        In the order of the probabilities; once fitted.
    """

    classes: tuple[str, ...]

    def fit(self, train: Examples, valid: Examples | None = None) -> None:
        """Learn; `valid` may choose among what was learnt. Its classes must be those of `train`."""

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Probabilities (N, C) of the classes; a text's do not depend on the other texts."""

    @property
    def num_parameters(self) -> int:
        """How many numbers were learnt."""


def make(name: str, config: WordConfig, reporter: Reporter | None = None) -> Baseline:
    """The system called `name`, one of `chargen.sentiment.baselines.config.TEXTBOOK`."""
    if name in TFIDF:
        return TfidfBaseline("words" if name == "tfidf" else "characters", config.seed)
    if name in NETWORKS:
        return WordBaseline(replace(config, cell=name), reporter)
    raise ConfigError(f"there is no system {name!r}; there are {', '.join((*TFIDF, *NETWORKS))}")


class TfidfBaseline:
    """TF-IDF and logistic regression; validation texts are learnt from like the others.

    Parameters
    ----------
    kind : {"words", "characters"}
    seed : int
    """

    def __init__(self, kind: str, seed: int = 0) -> None:
        self.kind = kind
        self.seed = seed
        self.classes: tuple[str, ...] = ()
        self._model: tfidf.TfidfModel | None = None
        self._order: list[int] = []

    def fit(self, train: Examples, valid: Examples | None = None) -> None:
        """Learn from all that has labels: nothing here needs texts held back."""
        texts, labels = train.texts, train.labels
        if valid is not None:
            texts, labels = texts + valid.texts, labels + valid.labels
        self._model = tfidf.fit(texts, labels, kind=self.kind, seed=self.seed)
        self.classes = train.classes
        self._order = [self._model.classes.index(label) for label in self.classes]

    @property
    def model(self) -> tfidf.TfidfModel:
        """What was fitted."""
        if self._model is None:
            raise ValueError("fit comes first")
        return self._model

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Probabilities (N, C)."""
        return self.model.predict_proba(texts)[:, self._order]

    @property
    def num_parameters(self) -> int:
        """Weights and biases of the regression."""
        return self.model.num_parameters


class WordBaseline:
    """A recurrent network over words.

    Parameters
    ----------
    config : WordConfig
    reporter : Reporter, optional
    """

    def __init__(self, config: WordConfig, reporter: Reporter | None = None) -> None:
        self.config = config
        self.reporter = reporter or Reporter()
        self.classes: tuple[str, ...] = ()
        self.vocabulary = WordVocabulary(())
        self._network: WordClassifier | None = None

    @property
    def network(self) -> WordClassifier:
        """What was fitted."""
        if self._network is None:
            raise ValueError("fit comes first")
        return self._network

    def fit(self, train: Examples, valid: Examples | None = None) -> None:
        """Learn from `train`; keep the weights that are best on `valid`.

        Raises
        ------
        CorpusError
            Where the file of word vectors cannot be used.
        ConfigError
            Where its vectors have another size than asked for, or there is no such device.
        TrainingError
        """
        config = self.config
        device = choose_device(config.device)
        texts = [tokenise(text) for text in train.texts]
        self.vocabulary = WordVocabulary.from_texts(texts, config.min_count, config.max_vocabulary)
        self.classes = train.classes
        vectors = self._vectors()
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(config.seed)
            self._network = self._build(vectors).to(device)
            number = {label: index for index, label in enumerate(self.classes)}
            encoded = Encoded(
                [self.vocabulary.encode(tokens, config.max_words) for tokens in texts],
                torch.tensor([number[label] for label in train.labels], dtype=torch.int64),
                np.array([len(text) for text in train.texts], dtype=np.int64),
            )

            def validate() -> dict[str, object]:
                assert valid is not None
                return metrics.evaluate(valid.labels, self.predict_proba(valid.texts), self.classes)

            check = validate if valid is not None and len(valid) else None
            train_network(self._network, encoded, check, config, self.reporter)

    def _vectors(self) -> WordVectors | None:
        config = self.config
        if config.embeddings is None:
            return None
        vectors = read_vectors(config.embeddings, self.vocabulary.words[len(SPECIAL) :])
        if config.embedding_size not in (None, vectors.size):
            raise ConfigError(
                f"--embedding-size is {config.embedding_size}, but {vectors.source} has vectors of "
                f"{vectors.size} numbers: leave --embedding-size out"
            )
        self.reporter.note(str(vectors))
        return vectors

    def _build(self, vectors: WordVectors | None) -> WordClassifier:
        size = self.config.embedding_size or EMBEDDING_SIZE
        config = replace(self.config, embedding_size=vectors.size if vectors else size)
        network = WordClassifier(config, len(self.vocabulary), len(self.classes))
        if vectors is not None:
            self._start_from(vectors, network)
        return network

    @torch.no_grad()
    def _start_from(self, vectors: WordVectors, network: WordClassifier) -> None:
        """Words of the file get its vectors; the others stay random, but of the same scale."""
        weight = network.embedding.weight
        weight *= float(vectors.matrix.std()) / float(weight.std())
        places = {word: index for index, word in enumerate(self.vocabulary.words)}
        rows = [places[word] for word in vectors.words]
        weight[rows] = torch.from_numpy(vectors.matrix)

    @torch.no_grad()
    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Probabilities (N, C)."""
        network = self.network.eval()
        device = network.embedding.weight.device
        probabilities = np.empty((len(texts), len(self.classes)), np.float32)
        for first, ids in self._encoded(texts):
            lengths = np.array([len(one) for one in ids], dtype=np.int64)
            for batch in sorted_batches(lengths, BATCH_SIZE, BATCH_WORDS):
                block, true_lengths = pad([ids[i] for i in batch])
                logits = network(block.to(device), true_lengths)
                probabilities[[first + i for i in batch]] = logits.softmax(-1).cpu().numpy()
        return probabilities

    def _encoded(self, texts: Sequence[str]) -> Iterator[tuple[int, list[NDArray[np.int32]]]]:
        """Index of the first text of each chunk, and the chunk's ids."""
        for first in range(0, len(texts), CHUNK):
            tokens = (tokenise(text) for text in texts[first : first + CHUNK])
            yield first, [self.vocabulary.encode(one, self.config.max_words) for one in tokens]

    @property
    def num_parameters(self) -> int:
        """All weights of the network."""
        return self.network.num_parameters()
