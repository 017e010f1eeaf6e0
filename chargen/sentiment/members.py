"""The members of a classifier, whose logits are added: a network, and linear models over n-grams.

What n-grams count, the network must first learn to see; what depends on order and context, they
cannot see. Mesnil et al. 2014 (https://arxiv.org/abs/1412.5335) found such a pair better than
either part on IMDB. Features are hashed (Weinberger et al. 2009), so that there is no table of
n-grams to keep, and any script will do. Prediction needs no scikit-learn.
"""

from __future__ import annotations

import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chargen.errors import MissingExtraError, brief
from chargen.sentiment.network import ClassifierNetwork, EncodedTexts, read_all, text_encodings
from chargen.sentiment.regression import Linear, NaiveBayesRegression, Regression, SelfTraining
from chargen.text.vocabulary import Vocabulary, code_points

CHARACTERS = (3, 6)
"""Shortest and longest n-gram of characters; they run across the spaces between words."""

WORDS = (1, 3)
"""Shortest and longest n-gram of words and punctuation marks."""

BITS = 20
"""Binary logarithm of the number of buckets (F)."""

STRENGTH = 30.0
"""Inverse strength of the L2 regularisation of characters."""

WORD_STRENGTH = 1.0
"""That of words, whose features are log count ratios."""

LATENT = 50
"""Components of latent semantic analysis (K)."""

LATENT_STRENGTH = 1.0
"""Inverse strength of the regularisation along them; the widest has a standard deviation of 1."""

TRACED = 2000
"""Beginnings of a text that are counted for a trace; each takes as long as it is long."""

_WORD = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIXER = np.uint64(0xD1B54A32D192ED03)

Floats = NDArray[np.float32]


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


class NgramModel(ABC):
    """Features of hashed n-grams, times weights (C, F), plus biases (C,), all float32.

    Only `CharacterNgrams` have idf (F,), squared inverse document frequencies of buckets. With
    `abstains` a text without a single n-gram that has a weight gets zeros, not the biases.
    """

    name: ClassVar[str]  # of its file in a checkpoint
    has_idf: ClassVar[bool]

    def __init__(
        self, weights: Floats, biases: Floats, idf: Floats | None = None, abstains: bool = True
    ) -> None:
        self.weights = weights
        self.biases = biases
        self.idf = idf
        self.abstains = abstains

    @abstractmethod
    def features(self, text: str) -> tuple[NDArray[np.int32], Floats]:
        """Buckets of a text's n-grams, each once, and their values."""

    def logits(self, texts: Sequence[str]) -> Tensor:
        rows = torch.empty(len(texts), len(self.biases))
        for row, text in zip(rows, texts, strict=True):
            indices, values = self.features(text)
            weights = self.weights[:, indices]
            known = not self.abstains or weights.any()
            row[:] = torch.from_numpy(weights @ values + self.biases) if known else 0.0
        return rows

    def trace(self, text: str) -> Tensor:  # of a long text, at each k-th character
        ends = np.arange(len(text) + 1)
        stride = 1 + len(text) // TRACED
        looked_at = np.append(ends[:-1:stride], len(text))
        found = self.logits([text[:end] for end in looked_at.tolist()])
        return found[torch.from_numpy(np.searchsorted(looked_at, ends, "right") - 1)]

    def to_tensors(self) -> dict[str, Tensor]:
        parts = {"weights": self.weights, "biases": self.biases}
        if self.idf is not None:
            parts["idf"] = self.idf
        return {name: torch.from_numpy(np.array(value)) for name, value in parts.items()}

    @classmethod
    def from_tensors(
        cls, tensors: dict[str, Tensor], num_classes: int, abstains: bool = True
    ) -> NgramModel:
        """What `to_tensors` gave, perhaps in another precision.

        Raises
        ------
        ValueError
            For other names, shapes or types, and values that are not finite numbers.
        """
        shapes: dict[str, tuple[int, ...]]
        shapes = {"weights": (num_classes, 1 << BITS), "biases": (num_classes,)}
        if cls.has_idf:
            shapes["idf"] = (1 << BITS,)
        if tensors.keys() != shapes.keys():
            raise ValueError(f"it has the tensors {brief(sorted(tensors))}, not {sorted(shapes)}")
        for name, shape in shapes.items():
            value = tensors[name]
            if tuple(value.shape) != shape or not value.is_floating_point():
                raise ValueError(f"{name} is not a float tensor of shape {list(shape)}")
            if not torch.isfinite(value.float()).all():
                raise ValueError(f"{name} has values that are not finite numbers")
        return cls(**{name: tensors[name].float().numpy() for name in shapes}, abstains=abstains)


class CharacterNgrams(NgramModel):
    """TF-IDF of character n-grams, a vector of length 1."""

    name = "ngrams"
    has_idf = True

    def features(self, text: str) -> tuple[NDArray[np.int32], Floats]:
        assert self.idf is not None
        indices, counts = _character_counts(text)
        return indices, _tf_idf(indices, counts, self.idf)


class WordNgrams(NgramModel):
    """Which n-grams of words and punctuation marks a text has."""

    name = "words"
    has_idf = False

    def features(self, text: str) -> tuple[NDArray[np.int32], Floats]:
        indices = np.unique(_word_buckets(text))
        return indices, np.ones(len(indices), np.float32)


MODELS: tuple[type[NgramModel], ...] = (CharacterNgrams, WordNgrams)

MODEL_OF: dict[str, type[NgramModel]] = {
    "character n-grams": CharacterNgrams,
    "latent features": CharacterNgrams,  # they are linear in n-grams of characters
    "word n-grams": WordNgrams,
    "self-trained words": WordNgrams,
}
"""By the names of regressions: those of one model are one sum of weights."""

Member = NetworkMember | NgramModel


def members_cost(names: Sequence[str]) -> int:
    """What prediction by members of these names costs: a network, a hundred times all n-grams."""
    return int(NetworkMember.name in names)


# ---------------------------------------------------------------- learning


class Ngrams:
    """N-grams of labelled texts, counted once, for regressions on any part of them.

    Latent semantic analysis (Deerwester et al. 1990) finds the `LATENT` components along which all
    texts differ most. A word that no labelled text has lies along them too, where it goes with
    words that they have; and few labels suffice for few components. Words are weighed by their
    log count ratios (Wang & Manning 2012, https://aclanthology.org/P12-2018). They also learn from
    the unlabelled texts, as the components label them (see `SelfTraining`).

    Parameters
    ----------
    texts : sequence of str, N
    unlabelled : sequence of str
        They say how common each n-gram is, and give the components.
    seed : int
        Of the random projection that finds the components.

    Attributes
    ----------
    regressions : dict of str to Regression
        "character n-grams", "word n-grams" and, with unlabelled texts, "latent features" and
        "self-trained words".

    Raises
    ------
    MissingExtraError
        Without scikit-learn.
    """

    def __init__(self, texts: Sequence[str], unlabelled: Sequence[str] = (), seed: int = 0) -> None:
        try:
            from sklearn.utils.extmath import randomized_svd
        except ImportError as error:
            raise MissingExtraError("learning n-grams", "sentiment") from error

        counted = [_character_counts(text) for text in (*texts, *unlabelled)]
        frequency = np.zeros(1 << BITS)
        for indices, _ in counted:
            frequency[indices] += 1
        # Squared: rare n-grams, which are whole words, may weigh more than endings and spaces.
        self.idf = ((np.log((1 + len(counted)) / (1 + frequency)) + 1) ** 2).astype(np.float32)
        rows = [(indices, _tf_idf(indices, counts, self.idf)) for indices, counts in counted]
        count, latent = len(texts), "latent features"
        self.regressions: dict[str, Regression] = {}
        self._buckets: dict[str, NDArray[np.int32]] = {}  # of the columns of weights
        characters, self._buckets["character n-grams"] = _sparse(rows[:count])
        self.regressions["character n-grams"] = Regression(characters, (STRENGTH,))
        if unlabelled:
            matrix, self._buckets[latent] = _sparse(rows)
            _, _, components = randomized_svd(  # (K, F')
                matrix, min(LATENT, count), n_iter=2, random_state=seed
            )
            self._components = components / (matrix @ components.T).std(0).max()
            along = (matrix @ self._components.T).astype(np.float32)
            self.regressions[latent] = Regression(along[:count], (LATENT_STRENGTH,))
        has = [np.unique(_word_buckets(text)) for text in (*texts, *unlabelled)]
        rows = [(each, np.ones(len(each), np.float32)) for each in has]
        words, self._buckets["word n-grams"] = _sparse(rows[:count])
        self.regressions["word n-grams"] = NaiveBayesRegression(words, (WORD_STRENGTH,))
        if unlabelled:
            words, self._buckets["self-trained words"] = _sparse(rows)
            self.regressions["self-trained words"] = SelfTraining(
                words, (WORD_STRENGTH,), self.regressions[latent], along[count:]
            )

    def models(self, fitted: dict[str, Linear]) -> list[NgramModel]:
        """What regressions found, by their names, as models that need them no more."""
        tables: dict[type[NgramModel], Floats] = {}
        biases: dict[type[NgramModel], Floats] = {}
        for name, linear in fitted.items():
            model, weights = MODEL_OF.get(name), linear.weights
            if model is None:
                continue
            if name == "latent features":
                weights = weights @ self._components
            table = tables.setdefault(model, np.zeros((len(weights), 1 << BITS), np.float32))
            table[:, self._buckets[name]] += weights
            biases[model] = biases.get(model, np.float32(0)) + linear.biases.astype(np.float32)
        return [
            model(tables[model], biases[model], self.idf if model.has_idf else None)
            for model in MODELS
            if model in tables
        ]


def _sparse(rows: Sequence[tuple[NDArray[np.int32], Floats]]) -> tuple[Any, NDArray[np.int32]]:
    """Features of texts, (N, F') in compressed rows, and the bucket of each of the F' columns."""
    import scipy.sparse

    lengths = [len(indices) for indices, _ in rows]
    buckets, columns = np.unique(np.concatenate([each for each, _ in rows]), return_inverse=True)
    values = np.concatenate([each for _, each in rows])
    shape = (len(rows), len(buckets))
    ends = np.cumsum([0, *lengths])
    return scipy.sparse.csr_matrix((values, columns, ends), shape=shape), buckets


# ---------------------------------------------------------------- counting


def _character_counts(text: str) -> tuple[NDArray[np.int32], Floats]:
    """Buckets of the text's n-grams, in lower case, spaces as one, and how often each occurs."""
    buckets = _buckets(code_points(f" {' '.join(text.lower().split())} "), *CHARACTERS)
    found, counts = np.unique(buckets, return_counts=True)
    return found, counts.astype(np.float32)


def _tf_idf(indices: NDArray[np.int32], counts: Floats, idf: Floats) -> Floats:
    values = (1 + np.log(counts)) * idf[indices]
    length = np.float32(np.linalg.norm(values))
    scaled: Floats = values / length if length else values
    return scaled


def _word_buckets(text: str) -> NDArray[np.int32]:
    words = [word.encode("utf-8", "surrogatepass") for word in _WORD.findall(text.lower())]
    return _buckets(np.array([zlib.crc32(word) for word in words], np.uint64), *WORDS)


def _buckets(codes: NDArray[Any], shortest: int, longest: int) -> NDArray[np.int32]:
    """The bucket of every n-gram of a row of numbers.

    The hash of an n-gram is made from that of the one a number shorter, for all places at once.
    """
    codes = codes.astype(np.uint64)
    hashes = np.zeros(len(codes), np.uint64)
    found = []
    for order in range(1, min(longest, len(codes)) + 1):
        hashes = hashes[: len(codes) - order + 1] * _MULTIPLIER + codes[order - 1 :] + np.uint64(1)
        if order >= shortest:
            mixed = hashes * _MIXER
            mixed = (mixed ^ (mixed >> np.uint64(29))) * _MULTIPLIER
            found.append((mixed >> np.uint64(64 - BITS)).astype(np.int32))
    return np.concatenate(found) if found else np.empty(0, np.int32)
