"""The members of a classifier, whose logits are added: a network, and linear models over n-grams.

N-grams count words and phrases that a network must first learn to recognise; a network uses order
and context that n-grams miss. Mesnil et al. 2014 (https://arxiv.org/abs/1412.5335) found such a
combination better than either part on IMDB. N-grams are hashed into buckets (Weinberger et al.
2009), so that no table of n-grams is stored and any script can be used. Prediction does not need
scikit-learn.
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

from chargen.errors import brief
from chargen.runtime.seeds import sklearn_seed
from chargen.sentiment.network import ClassifierNetwork, EncodedTexts, read_all, text_encodings
from chargen.sentiment.regression import Linear, NaiveBayesRegression, Regression, SelfTraining
from chargen.text.vocabulary import Vocabulary, code_points

CHARACTER_ORDERS = (3, 6)
"""Shortest and longest n-gram of characters; n-grams include the spaces between words."""

WORD_ORDERS = (1, 3)
"""Shortest and longest n-gram of words and punctuation marks."""

BUCKET_BITS = 20
"""Binary logarithm of the number of buckets (F)."""

STRENGTH = 30.0
"""Inverse L2 regularisation strength for n-grams of characters."""

WORD_STRENGTH = 1.0
"""Inverse regularisation strength for n-grams of words, whose features are log count ratios."""

LATENT_COMPONENTS = 50
"""Number of components of latent semantic analysis (K)."""

LATENT_STRENGTH = 1.0
"""Inverse regularisation strength for components; the largest standard deviation is 1."""

MAX_TRACED_PREFIXES = 2000
"""Maximum number of prefixes in a trace, each of which is counted from its start."""

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
        One per encoder.
    prior : (C,), optional
        Prior logits, which are subtracted from those of the network. With a prior, a text gets
        zeros if it has letters but none of them is in a vocabulary.
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
        """Return the logits of texts minus the prior, (N, C) float32, on the CPU."""
        encoded = EncodedTexts(texts, self.encodings)
        width = self.network.config.num_classes
        logits = read_all(encoded, self.network.logits, width, self.network.device, self.precision)
        if self.prior is None:
            return logits
        known = torch.tensor([self._has_known_letters(text) for text in texts], dtype=torch.bool)
        return self._minus_prior(self.prior, logits, known)

    def _minus_prior(self, prior: Tensor, logits: Tensor, known: Tensor) -> Tensor:
        """Subtract the calibrated prior from logits (N, C); return zeros where not `known` (N,)."""
        return torch.where(known[:, None], logits - prior / self.network.temperature.cpu(), 0.0)

    def _has_known_letters(self, text: str) -> bool:
        """Return whether a letter of the text is in a vocabulary, or the text has no letters."""
        letters = "".join(dict.fromkeys(filter(str.isalpha, text)))
        return not letters or any(
            len(encoding.vocabulary.encode_prompt(letters, "replace")[1]) < len(letters)
            for encoding in self.encodings
        )

    @torch.no_grad()
    def trace(self, text: str) -> Tensor | None:
        """Return the logits of each prefix, (N + 1, C), or None if one pass does not give them."""
        ids = [encoding.encode(text) for encoding in self.encodings]
        # A backward encoder reads each prefix anew; unequal numbers of steps cannot be aligned.
        if any(encoding.backward for encoding in self.encodings) or len(set(map(len, ids))) > 1:
            return None
        steps = [torch.from_numpy(each.astype(np.int64)).to(self.network.device) for each in ids]
        logits = self.network.trace(steps)[self.encodings[0].whole(ids[0])].cpu()
        if self.prior is None:
            return logits
        first = next(
            (i for i, c in enumerate(text) if c.isalpha() and self._has_known_letters(c)), len(text)
        )
        letters = np.cumsum([0, *(c.isalpha() for c in text)])
        known = torch.from_numpy((np.arange(len(text) + 1) > first) | (letters == 0))
        return self._minus_prior(self.prior, logits, known)


class NgramModel(ABC):
    """A linear model over hashed n-grams with weights (C, F) and biases (C,), all float32.

    Only `CharacterNgrams` has an idf (F,), the squared inverse document frequency of each bucket.
    A text gets zeros instead of the biases if none of its n-grams has a weight.
    """

    name: ClassVar[str]  # name of the model's file in a checkpoint
    has_idf: ClassVar[bool]

    def __init__(self, weights: Floats, biases: Floats, idf: Floats | None = None) -> None:
        self.weights = weights
        self.biases = biases
        self.idf = idf

    @abstractmethod
    def features(self, text: str) -> tuple[NDArray[np.int32], Floats]:
        """Return the distinct buckets of a text's n-grams, and their values."""

    def logits(self, texts: Sequence[str]) -> Tensor:
        rows = torch.empty(len(texts), len(self.biases))
        for row, text in zip(rows, texts, strict=True):
            indices, values = self.features(text)
            weights = self.weights[:, indices]
            row[:] = torch.from_numpy(weights @ values + self.biases) if weights.any() else 0.0
        return rows

    def trace(self, text: str) -> Tensor:  # in a long text, only at every k-th character
        ends = np.arange(len(text) + 1)
        stride = 1 + len(text) // MAX_TRACED_PREFIXES
        counted = np.append(ends[:-1:stride], len(text))
        logits = self.logits([text[:end] for end in counted.tolist()])
        return logits[torch.from_numpy(np.searchsorted(counted, ends, "right") - 1)]

    def to_tensors(self) -> dict[str, Tensor]:
        parts = {"weights": self.weights, "biases": self.biases}
        if self.idf is not None:
            parts["idf"] = self.idf
        return {name: torch.from_numpy(np.array(value)) for name, value in parts.items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], num_classes: int) -> NgramModel:
        """Return a model with the tensors of `to_tensors`, which may have another precision.

        Raises
        ------
        ValueError
            If a name, shape or type is wrong, or a value is not a finite number.
        """
        shapes: dict[str, tuple[int, ...]]
        shapes = {"weights": (num_classes, 1 << BUCKET_BITS), "biases": (num_classes,)}
        if cls.has_idf:
            shapes["idf"] = (1 << BUCKET_BITS,)
        if tensors.keys() != shapes.keys():
            raise ValueError(f"it has the tensors {brief(sorted(tensors))}, not {sorted(shapes)}")
        for name, shape in shapes.items():
            value = tensors[name]
            if tuple(value.shape) != shape or not value.is_floating_point():
                raise ValueError(f"{name} is not a float tensor of shape {list(shape)}")
            if not torch.isfinite(value.float()).all():
                raise ValueError(f"{name} has values that are not finite numbers")
        return cls(**{name: tensors[name].float().numpy() for name in shapes})


class CharacterNgrams(NgramModel):
    """A linear model over the TF-IDF of character n-grams, scaled to unit length."""

    name = "ngrams"
    has_idf = True

    def features(self, text: str) -> tuple[NDArray[np.int32], Floats]:
        assert self.idf is not None
        indices, counts = _character_counts(text)
        return indices, _tf_idf(indices, counts, self.idf)


class WordNgrams(NgramModel):
    """A linear model over the presence of n-grams of words and punctuation marks."""

    name = "words"
    has_idf = False

    def features(self, text: str) -> tuple[NDArray[np.int32], Floats]:
        indices = np.unique(_word_buckets(text))
        return indices, np.ones(len(indices), np.float32)


MODELS: tuple[type[NgramModel], ...] = (CharacterNgrams, WordNgrams)

MODEL_BY_REGRESSION: dict[str, type[NgramModel]] = {
    "character n-grams": CharacterNgrams,
    "latent features": CharacterNgrams,  # linear in n-grams of characters
    "word n-grams": WordNgrams,
    "self-trained words": WordNgrams,
}
"""Model class of each regression, by name; weights for the same model are added."""

Member = NetworkMember | NgramModel


def members_cost(names: Sequence[str]) -> int:
    """Return 1 if the network, a hundred times as slow as all n-grams, is a member; otherwise 0."""
    return int(NetworkMember.name in names)


# ---------------------------------------------------------------- learning


class Ngrams:
    """N-grams of labelled texts, counted once for regressions on any part of these texts.

    Latent semantic analysis (Deerwester et al. 1990) finds the `LATENT_COMPONENTS` components along
    which all texts differ most. They cover words that occur in no labelled text but together with
    words of labelled texts, and few components need only few labels. Words are weighted by their
    log count ratios (Wang & Manning 2012, https://aclanthology.org/P12-2018). A second regression
    on words also learns from unlabelled texts, which the components label (see `SelfTraining`).

    Parameters
    ----------
    texts : sequence of str, N
    unlabelled : sequence of str
        Used for document frequencies, for the components and for self-training.
    seed : int
        Seed of the random projection that finds the components.

    Attributes
    ----------
    regressions : dict of str to Regression
        "character n-grams", "word n-grams" and, with unlabelled texts, "latent features" and
        "self-trained words".
    """

    def __init__(self, texts: Sequence[str], unlabelled: Sequence[str] = (), seed: int = 0) -> None:
        from sklearn.utils.extmath import randomized_svd

        counted = [_character_counts(text) for text in (*texts, *unlabelled)]
        frequency = np.zeros(1 << BUCKET_BITS)
        for indices, _ in counted:
            frequency[indices] += 1
        # Squared, so that rare n-grams (whole words) weigh more than endings and spaces.
        self.idf = ((np.log((1 + len(counted)) / (1 + frequency)) + 1) ** 2).astype(np.float32)
        rows = [(indices, _tf_idf(indices, counts, self.idf)) for indices, counts in counted]
        count, latent = len(texts), "latent features"
        self.regressions: dict[str, Regression] = {}
        self._buckets: dict[str, NDArray[np.int32]] = {}  # of the columns of weights, by regression
        characters, self._buckets["character n-grams"] = _sparse(rows[:count])
        self.regressions["character n-grams"] = Regression(characters, (STRENGTH,))
        if unlabelled:
            matrix, self._buckets[latent] = _sparse(rows)
            _, _, components = randomized_svd(  # (K, F')
                matrix, min(LATENT_COMPONENTS, count), n_iter=2, random_state=sklearn_seed(seed)
            )
            self._components = components / (matrix @ components.T).std(0).max()
            projections = (matrix @ self._components.T).astype(np.float32)
            self.regressions[latent] = Regression(projections[:count], (LATENT_STRENGTH,))
        present = [np.unique(_word_buckets(text)) for text in (*texts, *unlabelled)]
        rows = [(buckets, np.ones(len(buckets), np.float32)) for buckets in present]
        words, self._buckets["word n-grams"] = _sparse(rows[:count])
        self.regressions["word n-grams"] = NaiveBayesRegression(words, (WORD_STRENGTH,))
        if unlabelled:
            words, self._buckets["self-trained words"] = _sparse(rows)
            self.regressions["self-trained words"] = SelfTraining(
                words, (WORD_STRENGTH,), self.regressions[latent], projections[count:]
            )

    def models(self, fitted: dict[str, Linear]) -> list[NgramModel]:
        """Convert fitted regressions, by name, to n-gram models; other names are ignored."""
        tables: dict[type[NgramModel], Floats] = {}
        biases: dict[type[NgramModel], Floats] = {}
        for name, linear in fitted.items():
            model, weights = MODEL_BY_REGRESSION.get(name), linear.weights
            if model is None:
                continue
            if name == "latent features":
                weights = weights @ self._components
            table = tables.setdefault(model, np.zeros((len(weights), 1 << BUCKET_BITS), np.float32))
            table[:, self._buckets[name]] += weights
            biases[model] = biases.get(model, np.float32(0)) + linear.biases.astype(np.float32)
        return [
            model(tables[model], biases[model], self.idf if model.has_idf else None)
            for model in MODELS
            if model in tables
        ]


def _sparse(rows: Sequence[tuple[NDArray[np.int32], Floats]]) -> tuple[Any, NDArray[np.int32]]:
    """Return features (N, F') as a CSR matrix, and the bucket of each of the F' columns."""
    import scipy.sparse

    lengths = [len(indices) for indices, _ in rows]
    buckets, columns = np.unique(np.concatenate([row for row, _ in rows]), return_inverse=True)
    values = np.concatenate([each for _, each in rows])
    shape = (len(rows), len(buckets))
    ends = np.cumsum([0, *lengths])
    return scipy.sparse.csr_matrix((values, columns, ends), shape=shape), buckets


# ---------------------------------------------------------------- counting


def _character_counts(text: str) -> tuple[NDArray[np.int32], Floats]:
    """Return buckets and counts of the n-grams of a text, in lower case with single spaces."""
    buckets = _buckets(code_points(f" {' '.join(text.lower().split())} "), *CHARACTER_ORDERS)
    distinct, counts = np.unique(buckets, return_counts=True)
    return distinct, counts.astype(np.float32)


def _tf_idf(indices: NDArray[np.int32], counts: Floats, idf: Floats) -> Floats:
    values = (1 + np.log(counts)) * idf[indices]
    length = np.float32(np.linalg.norm(values))
    scaled: Floats = values / length if length else values
    return scaled


def _word_buckets(text: str) -> NDArray[np.int32]:
    words = [word.encode("utf-8", "surrogatepass") for word in _WORD.findall(text.lower())]
    return _buckets(np.array([zlib.crc32(word) for word in words], np.uint64), *WORD_ORDERS)


def _buckets(codes: NDArray[Any], shortest: int, longest: int) -> NDArray[np.int32]:
    """Return the bucket of every n-gram of a sequence of codes.

    The hash of an n-gram is computed from that of the n-gram one code shorter, for all positions
    at once.
    """
    codes = codes.astype(np.uint64)
    hashes = np.zeros(len(codes), np.uint64)
    parts = []
    for order in range(1, min(longest, len(codes)) + 1):
        hashes = hashes[: len(codes) - order + 1] * _MULTIPLIER + codes[order - 1 :] + np.uint64(1)
        if order >= shortest:
            mixed = hashes * _MIXER
            mixed = (mixed ^ (mixed >> np.uint64(29))) * _MULTIPLIER
            parts.append((mixed >> np.uint64(64 - BUCKET_BITS)).astype(np.int32))
    return np.concatenate(parts) if parts else np.empty(0, np.int32)
