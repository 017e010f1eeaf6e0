"""A linear model over character n-grams, which votes beside the network.

What it counts, the network must first learn to see; what depends on order and context, it cannot
see. Mesnil et al. 2014 (https://arxiv.org/abs/1412.5335) found such a pair better than either part
on IMDB. Features are hashed (Weinberger et al. 2009), so that there is no table of n-grams to keep,
and any script will do. Prediction needs no scikit-learn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chargen.errors import MissingExtraError, brief
from chargen.text.vocabulary import code_points

ORDERS = (3, 6)
"""Shortest and longest n-gram; they run across the spaces between words."""

BITS = 20
"""Binary logarithm of the number of buckets (F)."""

STRENGTH = 30.0
"""Inverse strength of the L2 regularisation."""

LATENT = 50
"""Directions of latent semantic analysis (K)."""

LATENT_STRENGTH = 1.0
"""Inverse strength of the regularisation along them; the widest has a standard deviation of 1."""

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIXER = np.uint64(0xD1B54A32D192ED03)


class NgramModel:
    """TF-IDF of hashed character n-grams, times weights.

    Parameters
    ----------
    idf : (F,) float32
        Squared inverse document frequency of each bucket.
    weights : (C, F) float32
    biases : (C,) float32

    Attributes
    ----------
    idf, weights, biases
        As given.
    """

    def __init__(
        self, idf: NDArray[np.float32], weights: NDArray[np.float32], biases: NDArray[np.float32]
    ) -> None:
        self.idf = idf
        self.weights = weights
        self.biases = biases

    def logits(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """(N, C); zero for a text without a single n-gram but for the biases."""
        rows = []
        for text in texts:
            indices, values = features(text, self.idf)
            rows.append(self.weights[:, indices] @ values + self.biases)
        return np.stack(rows) if rows else np.empty((0, len(self.biases)), np.float32)

    def to_tensors(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        parts = {"idf": self.idf, "weights": self.weights, "biases": self.biases}
        return {name: torch.from_numpy(np.array(value)) for name, value in parts.items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], num_classes: int) -> NgramModel:
        """What `to_tensors` gave, perhaps in another precision.

        Raises
        ------
        ValueError
            For other names, shapes or types, and values that are not finite numbers.
        """
        shapes = {
            "idf": (1 << BITS,),
            "weights": (num_classes, 1 << BITS),
            "biases": (num_classes,),
        }
        if tensors.keys() != shapes.keys():
            raise ValueError(f"it has the tensors {brief(sorted(tensors))}, not {sorted(shapes)}")
        for name, shape in shapes.items():
            value = tensors[name]
            if tuple(value.shape) != shape or not value.is_floating_point():
                raise ValueError(f"{name} is not a float tensor of shape {list(shape)}")
            if not torch.isfinite(value.float()).all():
                raise ValueError(f"{name} has values that are not finite numbers")
        return cls(*(tensors[name].float().numpy() for name in shapes))

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        targets: NDArray[np.int64],
        num_classes: int,
        sample_weights: NDArray[np.float32] | None = None,
        unlabelled: Sequence[str] = (),
        seed: int = 0,
    ) -> list[NgramModel]:
        """A logistic regression, and with unlabelled texts also one on latent features.

        Latent semantic analysis (Deerwester et al. 1990) finds the `LATENT` directions along which
        all texts differ most. A word that no labelled text has lies along them too, where it goes
        with words that they have; and few labels suffice for few directions.

        Parameters
        ----------
        texts : sequence of str, N
        targets : (N,) int64
        num_classes : int
            C.
        sample_weights : (N,) float32, optional
        unlabelled : sequence of str
            They also say how common each n-gram is.
        seed : int
            Of the random projection that finds the directions.

        Returns
        -------
        list of NgramModel
            One, or two; members of a vote (see `chargen.sentiment.voting`).

        Raises
        ------
        MissingExtraError
            Without scikit-learn.
        """
        try:
            from sklearn.linear_model import LogisticRegression
            from sklearn.utils.extmath import randomized_svd
        except ImportError as error:
            raise MissingExtraError("learning n-grams", "sentiment") from error

        matrix, idf = _matrix([*texts, *unlabelled])
        count = len(texts)
        regression = LogisticRegression(C=STRENGTH, max_iter=100).fit(
            matrix[:count], targets, sample_weight=sample_weights
        )
        members = [_from_regression(idf, regression, regression.coef_, num_classes)]
        if unlabelled:
            _, _, directions = randomized_svd(
                matrix, min(LATENT, len(texts)), n_iter=2, random_state=seed
            )  # (K, F)
            places = matrix @ directions.T  # (N, K)
            directions /= places.std(0).max()
            regression = LogisticRegression(C=LATENT_STRENGTH, max_iter=500).fit(
                matrix[:count] @ directions.T, targets, sample_weight=sample_weights
            )
            # Linear in the places, which are linear in the n-grams: one row of weights a class.
            weights = regression.coef_ @ directions
            members.append(_from_regression(idf, regression, weights, num_classes))
        return members


def _matrix(texts: Sequence[str]) -> tuple[Any, NDArray[np.float32]]:
    """TF-IDF of texts, a sparse matrix (N, F), and the idf (F,)."""
    import scipy.sparse

    counted = [_counts(text) for text in texts]
    frequency = np.zeros(1 << BITS)
    for indices, _ in counted:
        frequency[indices] += 1
    # Squared: rare n-grams, which are whole words, may weigh more than endings and spaces.
    idf = ((np.log((1 + len(counted)) / (1 + frequency)) + 1) ** 2).astype(np.float32)
    lengths = [len(indices) for indices, _ in counted]
    columns = np.concatenate([indices for indices, _ in counted])
    values = np.concatenate([_scaled(*each, idf) for each in counted])
    shape = (len(counted), 1 << BITS)
    return scipy.sparse.csr_matrix((values, columns, np.cumsum([0, *lengths])), shape=shape), idf


def summed(members: Sequence[NgramModel], factors: Sequence[float]) -> NgramModel:
    """One model whose logits are the weighted sum of those of members with the same idf."""
    scales = np.array(factors, np.float32)
    weights = np.einsum("m,mcf->cf", scales, np.stack([member.weights for member in members]))
    biases = scales @ np.stack([member.biases for member in members])
    return NgramModel(members[0].idf, weights, biases)


def features(text: str, idf: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Buckets of a text's n-grams and their TF-IDF, a vector of length 1."""
    indices, counts = _counts(text)
    return indices, _scaled(indices, counts, idf)


def _counts(text: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    found, counts = np.unique(_buckets(text), return_counts=True)
    return found, counts.astype(np.float32)


def _scaled(
    indices: NDArray[np.int32], counts: NDArray[np.float32], idf: NDArray[np.float32]
) -> NDArray[np.float32]:
    values = (1 + np.log(counts)) * idf[indices]
    length = np.float32(np.linalg.norm(values))
    scaled: NDArray[np.float32] = values / length if length else values
    return scaled


def _buckets(text: str) -> NDArray[np.int32]:
    """The bucket of every n-gram of the text, in lower case, spaces as one.

    The hash of an n-gram is made from that of the one a character shorter, for all places at once.
    """
    codes = code_points(f" {' '.join(text.lower().split())} ").astype(np.uint64)
    shortest, longest = ORDERS
    hashes = np.zeros(len(codes), np.uint64)
    found = []
    for order in range(1, min(longest, len(codes)) + 1):
        hashes = hashes[: len(codes) - order + 1] * _MULTIPLIER + codes[order - 1 :] + np.uint64(1)
        if order >= shortest:
            mixed = hashes * _MIXER
            mixed = (mixed ^ (mixed >> np.uint64(29))) * _MULTIPLIER
            found.append((mixed >> np.uint64(64 - BITS)).astype(np.int32))
    return np.concatenate(found) if found else np.empty(0, np.int32)


def _from_regression(
    idf: NDArray[np.float32], model: Any, weights: NDArray[np.float64], num_classes: int
) -> NgramModel:
    """A fitted regression whose rows of weights are given, with rows for all classes."""
    weights, biases = row_a_class(weights, model.intercept_)
    all_weights = np.zeros((num_classes, weights.shape[1]), np.float32)
    all_biases = np.full(num_classes, -20.0, np.float32)  # a class without a single text
    all_weights[model.classes_] = weights
    all_biases[model.classes_] = biases
    return NgramModel(idf, all_weights, all_biases)


def row_a_class(
    weights: NDArray[np.float64], biases: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A regression's weights (C, F) and biases (C,): of two classes it has the second's alone."""
    if len(weights) > 1:
        return weights, biases
    return np.vstack([-weights, weights]) / 2, np.r_[-biases, biases] / 2
