"""Steering vectors, which change a language model's last layer so that it writes texts of a class.

After each step, the layer's output is moved along a vector, towards the outputs for texts of the
class. The next character is predicted from the moved output, and the next step starts from it
(activation steering; Subramani et al. 2022, https://arxiv.org/abs/2205.05124).

The vector is the difference of the classes' mean outputs, divided by the covariance plus an
identity matrix of the same scale. Division by the covariance alone, as in discriminant analysis,
separates the classes better, but emphasizes directions that hardly vary and that change little in
the generated text.
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
from torch.nn.utils.rnn import pad_sequence

from chargen.errors import CheckpointError, ConfigError, CorpusError, brief, did_you_mean
from chargen.lm.model import evaluation_mode
from chargen.lm.storage import KIND
from chargen.sampling.decoder import Decoder
from chargen.sampling.filters import require_finite
from chargen.storage import checkpoint
from chargen.storage.checkpoint import Checkpoint
from chargen.storage.outputs import writing_lock
from chargen.text.config import matching_label
from chargen.text.given import given_texts
from chargen.text.vocabulary import replace_surrogates

if TYPE_CHECKING:
    from chargen.language_model import LanguageModel

DOCUMENT = "steering"
"""Name of the document in a checkpoint."""

MOST_TEXTS, MOST_CHARACTERS = 2_000, 500
"""Largest number of labelled texts, and of characters at the beginning of each, that are read."""

GENERATED_TEXTS, GENERATED_CHARACTERS = 400, 400
"""Number of texts that a model writes for a classifier to label, and their length in characters."""

_COVARIANCE_TEXTS = 64
"""Number of texts from which the covariance of outputs over characters is estimated."""

_BATCH = 64

_ROUNDING = 1e-6
"""Largest difference of two mean outputs, each from -1 to 1, that may be due to rounding."""


@dataclass(frozen=True, eq=False)
class Steering:
    """A steering vector for each class, and the positions of texts along the vector."""

    classes: tuple[str, ...]
    vectors: NDArray[np.float32]  # (C, H), each of length 1
    # (C,): product of vector and output to which strength 1 moves the output: one standard
    # deviation (over characters) from the mean, on the side of the class
    targets: NDArray[np.float32]
    means: NDArray[np.float32]  # (C,): mean of this product over texts of all classes
    source: str  # description of the texts on which the vectors were fitted

    def steered(self, decoder: Decoder, label: str, strength: float = 1.0) -> Decoder:
        """Return a decoder of the same model that writes texts of the class `label`.

        Strength 1 moves each output to the class's target, and 2 to a point twice as far from the
        mean; 0.5 moves it halfway to the target, 0 not at all, and a negative strength towards the
        other side of the mean. Earlier steering is replaced. Raises `ConfigError` if there is no
        such class, the strength is not a number, or the vectors belong to a model of another size.
        """
        label = matching_label(label, self.classes)
        check_class_and_strength(label, strength, self.classes)
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
            # Row by row, so that a stream's numbers do not depend on other streams.
            position = (outputs * vector).sum(-1, keepdim=True)
            outputs.add_(vector * (share * (target - position)))

        return decoder.steered(move)

    def to_document(self) -> dict[str, Any]:
        """Return the steering as plain lists for a checkpoint."""
        return {
            "labels": list(self.classes),
            "source": self.source,
            "values": self.targets.tolist(),
            "neutral": self.means.tolist(),
            "directions": [[float(f"{v:.6g}") for v in row] for row in self.vectors.tolist()],
        }

    @classmethod
    def from_document(cls, document: Any, message_prefix: str) -> Steering:
        """Read the result of `to_document`; anything else raises a `CheckpointError`."""
        fields = {"labels", "source", "values", "neutral", "directions"}
        if not isinstance(document, dict) or document.keys() != fields:
            raise CheckpointError(
                f"{message_prefix} must be an object with {', '.join(sorted(fields))}"
            )
        labels, rows = document["labels"], document["directions"]
        if (
            not isinstance(labels, list)
            or not all(isinstance(label, str) for label in labels)
            or not 2 <= len(set(labels)) == len(labels)
        ):
            raise CheckpointError(f"{message_prefix}: labels must be at least two distinct texts")
        if not isinstance(document["source"], str):
            raise CheckpointError(f"{message_prefix}: source must be text")
        count = len(labels)
        if not isinstance(rows, list) or len(rows) != count or not rows[0]:
            raise CheckpointError(
                f"{message_prefix}: directions must be {count} lists, one per label"
            )
        size = len(rows[0]) if isinstance(rows[0], list) else 0
        vectors = np.stack([_numbers(row, size, f"{message_prefix}: directions") for row in rows])
        if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):
            raise CheckpointError(f"{message_prefix}: directions must each have length 1")
        targets, means = (
            _numbers(document[key], count, f"{message_prefix}: {key}")
            for key in ("values", "neutral")
        )
        return cls(tuple(labels), vectors, targets, means, document["source"])


def fit_steering(
    lm: LanguageModel, texts: Sequence[str], labels: Sequence[str], source: str
) -> Steering:
    """Fit a steering vector for each class on labelled texts, which `source` describes in words.

    At most `MOST_TEXTS` texts are read, evenly spaced within each class, and `MOST_CHARACTERS` of
    each, with the newlines and the Unicode normalization of the model's training text. Raises
    `CorpusError` if there is only one class, a class has only one text, the texts of a class are
    the same to the model as those of the others, or a text or a label is not a `str`.
    """
    texts = [lm.normalized(replace_surrogates(text)) for text in given_texts(texts)]
    labels = list(labels)
    if len(texts) != len(labels) or not all(isinstance(label, str) for label in labels):
        raise CorpusError(f"{source}: each text needs a label, which is a text (str)")
    classes = tuple(sorted(set(labels)))
    chosen: list[int] = []
    for label in classes:
        positions = [i for i, text_label in enumerate(labels) if text_label == label]
        if len(positions) < 2 or len(classes) < 2:
            raise CorpusError(
                f"{source}: steering needs at least two classes with at least two texts each; "
                f"{label!r} has {len(positions)}"
            )
        count = min(len(positions), max(2, MOST_TEXTS * len(positions) // len(labels)))
        chosen += [positions[i] for i in np.linspace(0, len(positions) - 1, count).astype(int)]
    chosen.sort()
    with evaluation_mode(lm.model):
        outputs = list(_text_outputs(lm, [texts[i][:MOST_CHARACTERS] for i in chosen]))
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
    """Fit steering vectors on texts that the model writes and a classifier labels.

    `predict`, such as ``Classifier.predict``, returns the labels of texts, each one of `classes`.
    Raises `CorpusError` if it gives one of the classes to fewer than two texts.
    """
    samples = lm.sample(
        "", GENERATED_TEXTS, max_chars=GENERATED_CHARACTERS, temperature=1.0, seed=seed
    )
    texts = [sample.text for sample in samples if sample.text.strip()]
    labels = list(predict(texts))
    for label in classes:
        if labels.count(label) < 2:
            raise CorpusError(
                f"of {len(texts)} texts that the model wrote, the classifier calls "
                f"{labels.count(label)} {label!r}: give labelled texts with --steer-data"
            )
    return fit_steering(lm, texts, labels, "its own, as classified")


@torch.no_grad()
def _text_outputs(
    lm: LanguageModel, texts: Sequence[str]
) -> Iterable[tuple[NDArray[np.float32], Tensor | None]]:
    """Return each text's mean output (H,) of the last layer, and all outputs (T, H) or None.

    All outputs are returned for some of the texts. Texts are read in batches of similar length.
    """
    start, step = [lm.vocabulary.start_id], -1 if lm.backward else 1
    encoded = (lm.vocabulary.encode(text)[::step] for text in texts)
    ids = [torch.from_numpy(np.concatenate([start, each]).astype(np.int64)) for each in encoded]
    kept = set(range(0, len(ids), max(1, len(ids) // _COVARIANCE_TEXTS)))
    by_text: dict[int, tuple[NDArray[np.float32], Tensor | None]] = {}
    by_length = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    for first in range(0, len(ids), _BATCH):
        batch = by_length[first : first + _BATCH]
        padded = pad_sequence([ids[i] for i in batch]).to(lm.model.device)  # (T, B)
        outputs, _ = lm.model.features(padded, lm.model.initial_state(len(batch)))  # (T, B, H)
        for column, i in enumerate(batch):
            steps = outputs[: len(ids[i]), column].float().cpu()
            by_text[i] = steps.mean(0).numpy(), steps if i in kept else None
    return [by_text[i] for i in range(len(ids))]


def fit_vectors(
    classes: tuple[str, ...],
    features: NDArray[np.float32],
    labels: Sequence[str],
    outputs: Iterable[Tensor],
    source: str,
) -> Steering:
    """Fit a steering vector for each class on the last layer's outputs for labelled texts.

    `features` (N, H) are the mean outputs of the texts; `outputs`, each (T, H), are the outputs at
    all steps of some texts, from which the covariance over characters is estimated. Raises
    `ChargenError` if the outputs are not numbers.
    """
    require_finite(features)
    truth = np.array(labels)
    differences = np.stack(
        [features[truth == label].mean(0) - features[truth != label].mean(0) for label in classes]
    )
    for label, difference in zip(classes, differences, strict=True):
        if np.abs(difference).max() <= _ROUNDING:
            raise CorpusError(
                f"{source}: the texts of {label!r} are the same to the model as those of the other "
                "classes, so they define no direction"
            )
    covariance = _covariance(outputs)
    scale = np.trace(covariance) / len(covariance) or 1.0
    vectors = np.linalg.solve(covariance / scale + np.eye(len(covariance)), differences.T).T
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
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
    """Return the steering in a language model's checkpoint, or None."""
    if stored is None or DOCUMENT not in stored.documents:
        return None
    return Steering.from_document(stored.documents[DOCUMENT], f"{stored.path}: {DOCUMENT}.json")


def store_steering(directory: str | Path, steering: Steering) -> None:
    """Add a steering to a language model's checkpoint, so that it can be used without data."""
    path = Path(directory)
    with writing_lock(path):
        stored = checkpoint.load(path, KIND, training=True)
        stored.documents[DOCUMENT] = steering.to_document()
        rows = checkpoint.read_metrics(path, 2**63)
        checkpoint.save(path, replace(stored, path=None), metrics=rows)


def check_class_and_strength(label: str, strength: float, classes: Sequence[str]) -> None:
    """Raise `ConfigError` for an unknown class or a strength that is not a finite number."""
    if matching_label(label, classes) not in classes:
        known = ", ".join(map(repr, classes)) + did_you_mean(str(label), classes)
        raise ConfigError(f"--steer {label!r} is not one of the labels {known}")
    try:
        finite = math.isfinite(strength)
    except (TypeError, OverflowError):  # not a number, or an integer too large for a float
        finite = False
    if not finite:
        raise ConfigError(f"--strength must be a number, got {brief(strength)}")


def _covariance(outputs: Iterable[Tensor]) -> NDArray[np.float64]:
    """Return the covariance (H, H) of outputs over all steps of the texts."""
    steps, total, products = 0, torch.zeros(()), torch.zeros(())
    for text_outputs in outputs:
        exact = text_outputs.cpu().double()  # (T, H)
        steps += len(exact)
        total = total + exact.sum(0)
        products = products + exact.T @ exact
    mean = total / steps
    covariance: NDArray[np.float64] = (products / steps - torch.outer(mean, mean)).numpy()
    return covariance


def _numbers(values: Any, count: int, message_prefix: str) -> NDArray[np.float32]:
    """Return a list of `count` numbers as (count,) float32; refuse other values."""
    if (
        not isinstance(values, list)
        or len(values) != count
        or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        or not all(abs(v) < 1e6 for v in values)
    ):
        raise CheckpointError(f"{message_prefix} must be a list of {count} numbers")
    return np.array(values, np.float32)
