"""Steering vectors: text of a chosen class, by what a language model's last layer holds.

After each step the layer's output is moved along a vector, to the side where texts of the class
lie: from there the next character is read, and there the next step starts (activation steering;
Subramani et al. 2022, https://arxiv.org/abs/2205.05124).

The vector is the difference of the classes' mean outputs. Dividing it by the covariance, as a
discriminant analysis does, tells the classes apart better, but then leans on what hardly varies and
changes little of what is written. What is used lies between the two: the covariance with as much of
the identity added to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chargen.errors import CheckpointError, ConfigError, CorpusError, brief, did_you_mean
from chargen.lm.storage import KIND
from chargen.sampling.decoder import Decoder
from chargen.storage import checkpoint
from chargen.storage.checkpoint import Checkpoint
from chargen.storage.outputs import writing_lock
from chargen.text.given import given_texts
from chargen.text.vocabulary import readable

if TYPE_CHECKING:
    from chargen.language_model import LanguageModel

DOCUMENT = "steering"
"""Name of the checkpoint's document."""

MOST_TEXTS, MOST_CHARACTERS = 2_000, 500
"""Labelled texts that are read, and characters at the beginning of each."""

OWN_TEXTS, OWN_CHARACTERS = 400, 400
"""Texts that a model writes to have them labelled, and their length."""

_COVARIANCE_TEXTS = 64
"""Texts from which it is taken how outputs vary from character to character."""

_BATCH = 64


@dataclass(frozen=True, eq=False)
class Steering:
    """A steering vector for each class, and where its texts lie along it."""

    classes: tuple[str, ...]
    vectors: NDArray[np.float32]  # (C, H), each of length 1
    # (C,): where the last layer's output is held at strength 1: its product with the vector, one
    # standard deviation (from character to character) to the class's side of the mean
    targets: NDArray[np.float32]
    means: NDArray[np.float32]  # (C,): the mean of that product over texts of all classes
    source: str  # what the vectors were fitted on, in words

    def steered(self, decoder: Decoder, label: str, strength: float = 1.0) -> Decoder:
        """A decoder of the same model that writes texts of a class.

        Strength 1 holds the output at the class's target, 2 twice as far from the mean; 0.5 goes
        half the way there from wherever the output is, 0 leaves it alone, and below 0 it is held on
        the other side. Earlier steering ends. Raises `ConfigError` where there is no such class,
        the strength is no number, or the vectors are those of a model of another size.
        """
        check_arguments(label, strength, self.classes)
        size = self.vectors.shape[1]
        if size != decoder.model.hidden_size:
            raise ConfigError(
                f"the steering is for a model of {size} hidden units; "
                f"this one has {decoder.model.hidden_size}"
            )
        if strength == 0:
            return decoder.steered(None)
        index = self.classes.index(label)
        vector = torch.from_numpy(self.vectors[index]).to(decoder.device)
        mean = float(self.means[index])
        reach = max(abs(strength), 1.0) * math.copysign(1.0, strength)
        target = mean + reach * (float(self.targets[index]) - mean)
        share = min(abs(strength), 1.0)

        def move(outputs: Tensor) -> None:
            # Row by row, so that a stream's numbers do not depend on the others.
            place = (outputs * vector).sum(-1, keepdim=True)
            outputs.add_(vector * (share * (target - place)))

        return decoder.steered(move)

    def to_document(self) -> dict[str, Any]:
        """Plain lists, for the checkpoint."""
        return {
            "labels": list(self.classes),
            "source": self.source,
            "values": self.targets.tolist(),
            "neutral": self.means.tolist(),
            "directions": [[float(f"{v:.6g}") for v in row] for row in self.vectors.tolist()],
        }

    @classmethod
    def from_document(cls, document: Any, where: str) -> Steering:
        """Read what `to_document` gave; anything else is a `CheckpointError`."""
        fields = {"labels", "source", "values", "neutral", "directions"}
        if not isinstance(document, dict) or document.keys() != fields:
            raise CheckpointError(f"{where} must be an object with {', '.join(sorted(fields))}")
        labels, rows = document["labels"], document["directions"]
        if (
            not isinstance(labels, list)
            or not all(isinstance(label, str) for label in labels)
            or not 2 <= len(set(labels)) == len(labels)
        ):
            raise CheckpointError(f"{where}: labels must be two distinct texts or more")
        if not isinstance(document["source"], str):
            raise CheckpointError(f"{where}: source must be text")
        count = len(labels)
        if not isinstance(rows, list) or len(rows) != count or not rows[0]:
            raise CheckpointError(f"{where}: directions must be {count} lists, one a label")
        size = len(rows[0]) if isinstance(rows[0], list) else 0
        vectors = np.stack([_numbers(row, size, f"{where}: directions") for row in rows])
        if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):
            raise CheckpointError(f"{where}: directions must each have length 1")
        targets, means = (
            _numbers(document[key], count, f"{where}: {key}") for key in ("values", "neutral")
        )
        return cls(tuple(labels), vectors, targets, means, document["source"])


def fit_steering(
    lm: LanguageModel, texts: Sequence[str], labels: Sequence[str], source: str
) -> Steering:
    """Fit a steering vector for each class on labelled texts; `source` says in words what they are.

    At most `MOST_TEXTS` are read, evenly spaced within each class, and `MOST_CHARACTERS` of each.
    Where there is only one class, a class has a single text, or a text or its label is none, it is
    a `CorpusError`.
    """
    texts, labels = [readable(text) for text in given_texts(texts)], list(labels)
    if len(texts) != len(labels) or not all(isinstance(label, str) for label in labels):
        raise CorpusError(f"{source}: each text needs a label, which is a text (str)")
    classes = tuple(sorted(set(labels)))
    chosen: list[int] = []
    for label in classes:
        own = [i for i, each in enumerate(labels) if each == label]
        if len(own) < 2 or len(classes) < 2:
            raise CorpusError(
                f"{source}: steering needs two classes or more with two texts or more in "
                f"each; {label!r} has {len(own)}"
            )
        count = min(len(own), max(2, MOST_TEXTS * len(own) // len(labels)))
        chosen += [own[i] for i in np.linspace(0, len(own) - 1, count).astype(int)]
    chosen.sort()
    outputs = list(_outputs(lm, [texts[i][:MOST_CHARACTERS] for i in chosen]))
    return fit_vectors(
        classes,
        np.stack([mean for mean, _ in outputs]),
        [labels[i] for i in chosen],
        [steps for _, steps in outputs if steps is not None],
        source,
    )


def fit_with_classifier(
    lm: LanguageModel,
    predict: Callable[[list[str]], list[str]],
    classes: Sequence[str],
    seed: int = 0,
) -> Steering:
    """Fit steering vectors without labelled texts: a classifier labels what the model writes.

    `predict` gives the labels of texts, such as ``Classifier.predict``, and may give all `classes`.
    Where the model hardly ever writes texts of one of them it is a `CorpusError`.
    """
    drawn = lm.sample("", OWN_TEXTS, max_chars=OWN_CHARACTERS, temperature=1.0, seed=seed)
    texts = [sample.text for sample in drawn if sample.text.strip()]
    found = predict(texts)
    for label in classes:
        if found.count(label) < 2:
            raise CorpusError(
                f"of {len(texts)} texts that the model wrote, the classifier calls "
                f"{found.count(label)} {label!r}: give labelled texts with --steer-data"
            )
    return fit_steering(lm, texts, found, "its own, as classified")


@torch.no_grad()
def _outputs(
    lm: LanguageModel, texts: Sequence[str]
) -> Iterable[tuple[NDArray[np.float32], Tensor | None]]:
    """Of each text the last layer's mean output (H,), and of some the output at each step (T, H).

    Texts are read in batches of like length.
    """
    device = lm.model.device
    ids = []
    for text in texts:
        order = lm.vocabulary.encode(text)
        start = np.array([lm.vocabulary.start_id], np.int64)
        ids.append(np.concatenate([start, order[::-1] if lm.backward else order]).astype(np.int64))
    kept = set(range(0, len(ids), max(1, len(ids) // _COVARIANCE_TEXTS)))
    found: dict[int, tuple[NDArray[np.float32], Tensor | None]] = {}
    by_length = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    for first in range(0, len(ids), _BATCH):
        batch = by_length[first : first + _BATCH]
        padded = np.zeros((len(ids[batch[-1]]), len(batch)), np.int64)  # (T, B)
        for column, i in enumerate(batch):
            padded[: len(ids[i]), column] = ids[i]
        state = lm.model.initial_state(len(batch))
        outputs, _ = lm.model.features(torch.from_numpy(padded).to(device), state)  # (T, B, H)
        for column, i in enumerate(batch):
            steps = outputs[: len(ids[i]), column].float().cpu()
            found[i] = steps.mean(0).numpy(), steps if i in kept else None
    return [found[i] for i in range(len(ids))]


def fit_vectors(
    classes: tuple[str, ...],
    features: NDArray[np.float32],
    labels: Sequence[str],
    outputs: Iterable[Tensor],
    source: str,
) -> Steering:
    """Fit a steering vector for each class on what the last layer held of labelled texts.

    `features` (N, H) are the mean outputs over each text; `outputs`, each (T, H), are those at each
    step of some texts, to see how they vary from character to character.
    """
    truth = np.array(labels)
    differences = np.stack(
        [features[truth == label].mean(0) - features[truth != label].mean(0) for label in classes]
    )
    covariance = _covariance(outputs)
    scale = np.trace(covariance) / len(covariance) or 1.0
    vectors = np.linalg.solve(covariance / scale + np.eye(len(covariance)), differences.T).T
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    means = vectors @ features.mean(0)  # (C,)
    spread = np.sqrt(np.einsum("ch,hk,ck->c", vectors, covariance, vectors))
    return Steering(
        classes,
        vectors.astype(np.float32),
        (means + spread).astype(np.float32),
        means.astype(np.float32),
        f"the difference of the classes' means over {len(labels):,} texts of {source}",
    )


def stored_steering(stored: Checkpoint | None) -> Steering | None:
    """The steering in a language model's checkpoint, if there is one."""
    if stored is None or DOCUMENT not in stored.documents:
        return None
    return Steering.from_document(stored.documents[DOCUMENT], f"{stored.path}: {DOCUMENT}.json")


def store_steering(directory: str | Path, steering: Steering) -> None:
    """Put a steering into a language model's checkpoint, so that it can be used without data."""
    path = Path(directory)
    with writing_lock(path):
        stored = checkpoint.load(path, KIND, training=True)
        stored.documents[DOCUMENT] = steering.to_document()
        rows = checkpoint.read_metrics(path, 2**63)
        checkpoint.save(path, replace(stored, path=None), metrics=rows)


def check_arguments(label: str, strength: float, classes: Sequence[str]) -> None:
    """Refuse a class that is not there and a strength that is no number, by a `ConfigError`."""
    if label not in classes:
        known = ", ".join(map(repr, classes)) + did_you_mean(str(label), classes)
        raise ConfigError(f"--steer {label!r} is not one of the labels {known}")
    try:
        finite = math.isfinite(strength)
    except (TypeError, OverflowError):  # no number, or a whole number that no float holds
        finite = False
    if not finite:
        raise ConfigError(f"--strength must be a number, got {brief(strength)}")


def _covariance(outputs: Iterable[Tensor]) -> NDArray[np.float64]:
    """Covariance over the steps of some texts: (H, H)."""
    steps, total, products = 0, torch.zeros(()), torch.zeros(())
    for some in outputs:
        exact = some.cpu().double()  # (T, H)
        steps += len(exact)
        total = total + exact.sum(0)
        products = products + exact.T @ exact
    mean = total / steps
    covariance: NDArray[np.float64] = (products / steps - torch.outer(mean, mean)).numpy()
    return covariance


def _numbers(values: Any, count: int, where: str) -> NDArray[np.float32]:
    """A list of so many finite numbers, as (count,) float32."""
    if (
        not isinstance(values, list)
        or len(values) != count
        or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        or not all(abs(v) < 1e6 for v in values)
    ):
        raise CheckpointError(f"{where} must be a list of {count} numbers")
    return np.array(values, np.float32)
