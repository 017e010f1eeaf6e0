"""Directions along which a language model's last layer is steered, fitted on texts of the classes.

The difference of the classes' mean outputs steers. Dividing it by the covariance, as a discriminant
analysis does, tells the classes apart better, but then leans on what hardly varies and changes
little of what is written. What is used lies between the two: the covariance with as much of the
identity added to it. One unit alone steers less (the report on sentiment, benchmarks/results).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from chargen.errors import ConfigError, CorpusError
from chargen.language_model import LanguageModel
from chargen.lm import storage as lm_storage
from chargen.runtime.seeds import new_seed
from chargen.sentiment.batching import Eye
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.examples import Examples, subset
from chargen.sentiment.steering import DOCUMENT, Steering
from chargen.sentiment.units import (
    TellingUnit,
    encoder_features,
    probe_direction,
    reader_of,
    telling_unit,
)
from chargen.storage import checkpoint
from chargen.storage.outputs import writing_lock

WAYS = ("means", "unit", "probe")

MOST_TEXTS = 2_000
"""Labelled texts that are read."""

MOST_CHARACTERS = 500
"""Characters at the beginning of each that are."""

_STEP_TEXTS = 64
"""Texts from which it is taken how outputs vary from character to character."""

OWN_TEXTS, OWN_CHARACTERS = 400, 400
"""Texts that a model writes to have them labelled, and their length."""


def fit_steering(
    lm: LanguageModel, examples: Examples, way: str = "means", probe: Classifier | None = None
) -> Steering:
    """Find for each class a direction to steer by.

    Parameters
    ----------
    lm : LanguageModel
    examples : Examples
        At most `MOST_TEXTS` of them are read, and `MOST_CHARACTERS` of each.
    way : {"means", "unit", "probe"}
        From the mean of the other classes to the mean of this one, shrunk where the outputs vary
        most from character to character; or the one unit that differs most between the classes; or
        the weights of a probe.
    probe : Classifier, optional
        For that way: trained with ``--method probe`` on this model, with the labels of the
        examples.

    Raises
    ------
    CorpusError
        Where there is only one class, or a class has a single text.
    ConfigError
        Where there is no such way, or the probe is another model's or knows other labels.
    CheckpointError
        Where it is no probe.
    """
    if way not in WAYS:
        raise ConfigError(f"a direction is one of {', '.join(WAYS)}; got {way!r}")
    labels = examples.classes
    for label in labels:
        if examples.labels.count(label) < 2 or len(labels) < 2:
            raise CorpusError(
                f"{examples.source}: steering needs two classes or more with two texts or more in "
                f"each; {label!r} has {examples.labels.count(label)}"
            )
    if len(examples) > MOST_TEXTS:
        examples = subset(examples, MOST_TEXTS, seed=0)
    texts = [text[:MOST_CHARACTERS] for text in examples.texts]
    eye = Eye(lm.vocabulary, lm.backward)
    features = encoder_features(lm.model, eye, texts)
    mean = features[:, lm.model.hidden_size : 2 * lm.model.hidden_size]  # (N, H)
    truth = np.array(examples.labels)
    covariance = _covariance(lm, eye, texts[:: max(1, len(texts) // _STEP_TEXTS)])
    if way == "means":
        differences = np.stack(
            [mean[truth == label].mean(0) - mean[truth != label].mean(0) for label in labels]
        )
        scale = np.trace(covariance) / len(covariance) or 1.0
        directions = np.linalg.solve(covariance / scale + np.eye(len(covariance)), differences.T).T
        what = "the difference of the classes' means"
    elif way == "probe":
        directions = _of_probe(probe, lm, labels)
        what = "the weights of a probe"
    else:
        units = [telling_unit(features, examples.labels, label) for label in labels]
        directions = np.stack([_axis(unit, lm.model.hidden_size) for unit in units])
        what = f"unit {', '.join(dict.fromkeys(str(unit.index) for unit in units))}"
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    directions = directions / np.maximum(lengths, 1e-12)
    neutral = directions @ mean.mean(0)  # (C,)
    spread = np.sqrt(np.einsum("ch,hk,ck->c", directions, covariance, directions))
    source = f"{what} over {len(examples):,} texts of {examples.source}"
    return Steering(
        labels,
        directions.astype(np.float32),
        (neutral + spread).astype(np.float32),
        neutral.astype(np.float32),
        source,
    )


def fit_with_classifier(
    lm: LanguageModel, classifier: Classifier, way: str = "means", seed: int = 0
) -> Steering:
    """Find the directions without labelled texts: a classifier labels what the model writes.

    The classifier may have any encoder.

    Raises
    ------
    CorpusError
        Where the model hardly ever writes texts of one of the labels.
    """
    drawn = lm.sample("", OWN_TEXTS, max_chars=OWN_CHARACTERS, temperature=1.0, seed=seed)
    texts = [sample.text for sample in drawn if sample.text.strip()]
    found = classifier.predict(texts)
    for label in classifier.labels:
        if found.count(label) < 2:
            raise CorpusError(
                f"of {len(texts)} texts that the model wrote, the classifier calls "
                f"{found.count(label)} {label!r}: give labelled texts with --steer-data"
            )
    examples = Examples(
        tuple(texts), tuple(found), tuple(range(1, len(texts) + 1)), "its own, as classified"
    )
    return fit_steering(lm, examples, way, classifier)


def stored_steering(lm: LanguageModel) -> Steering | None:
    """The steering in a language model's checkpoint, if there is one.

    Raises
    ------
    CheckpointError
        Where it is damaged.
    """
    if lm.checkpoint is None or DOCUMENT not in lm.checkpoint.documents:
        return None
    where = f"{lm.checkpoint.path}: {DOCUMENT}.json"
    return Steering.from_document(lm.checkpoint.documents[DOCUMENT], where)


def store_steering(directory: str | Path, steering: Steering) -> None:
    """Put a steering into a language model's checkpoint, so that it can be used without data.

    Raises
    ------
    CheckpointError
    """
    path = Path(directory)
    with writing_lock(path):
        stored = checkpoint.load(path, lm_storage.KIND, training=True)
        stored.documents[DOCUMENT] = steering.to_document()
        rows = checkpoint.read_metrics(path, 2**63)
        checkpoint.save(path, replace(stored, path=None), metrics=rows)


def effect(
    lm: LanguageModel,
    steering: Steering,
    classifier: Classifier,
    label: str,
    strengths: Sequence[float] = (0.0, 0.5, 1.0, 2.0),
    num_samples: int = 100,
    **options: Any,
) -> list[dict[str, float]]:
    """What steering does to what is written, as a classifier and the unsteered model find it.

    Parameters
    ----------
    lm : LanguageModel
    steering : Steering
    classifier : Classifier
    label : str
    strengths : sequence of float
    num_samples : int
        Texts for each strength, with the same seeds.
    **options
        Fields of `SamplingConfig`.

    Returns
    -------
    list of dict
        For each strength: ``share`` of the texts that the classifier gives the label,
        ``probability`` of the label on average, and ``bits_per_char`` of the texts under the model
        as it is: what the steering costs in likeliness.

    Raises
    ------
    ConfigError
        Where the classifier does not know the label.
    """
    if label not in classifier.labels:
        known = ", ".join(map(repr, classifier.labels))
        raise ConfigError(f"the classifier has no label {label!r}; its labels are {known}")
    column = classifier.labels.index(label)
    if options.get("seed") is None:
        options["seed"] = new_seed()
    rows = []
    for strength in strengths:
        written = steering.steered(lm, label, strength).sample("", num_samples, **options)
        texts = [sample.text for sample in written if sample.text.strip()]
        probabilities = classifier.predict_proba(texts)
        scores = [lm.score(text, as_is=True) for text in texts]
        nats = sum(-float(score.log_probs.sum()) for score in scores)
        rows.append(
            {
                "strength": float(strength),
                "share": float((probabilities.argmax(-1) == column).mean()),
                "probability": float(probabilities[:, column].mean()),
                "bits_per_char": nats / np.log(2) / sum(map(len, texts)),
                "texts": len(texts),
            }
        )
    return rows


def _axis(unit: TellingUnit, size: int) -> NDArray[np.float64]:
    """The direction of one unit, towards its label's side."""
    axis = np.zeros(size)
    axis[unit.index] = 1 if unit.above else -1
    return axis


def _of_probe(
    probe: Classifier | None, lm: LanguageModel, labels: tuple[str, ...]
) -> NDArray[np.float64]:
    if probe is None or probe.labels != labels:
        raise ConfigError(f"way 'probe' needs a probe of the labels {', '.join(map(repr, labels))}")
    directions = probe_direction(probe.network).astype(np.float64)
    if directions.shape[1] != lm.model.hidden_size:
        raise ConfigError(
            f"the probe is of a model of {directions.shape[1]} hidden units; "
            f"this one has {lm.model.hidden_size}"
        )
    return directions


@torch.no_grad()
def _covariance(lm: LanguageModel, eye: Eye, texts: Sequence[str]) -> NDArray[np.float64]:
    """Covariance of the outputs over the steps of some texts: (H, H)."""
    reader = reader_of(lm.model)
    device, size = lm.model.embedding.weight.device, lm.model.hidden_size
    total = torch.zeros(size, dtype=torch.float64)
    products = torch.zeros(size, size, dtype=torch.float64)
    steps = 0
    for text in texts:
        ids = torch.from_numpy(eye.encode(text).astype(np.int64)).to(device)
        outputs = reader.outputs(0, ids).cpu().double()  # (T, H)
        total += outputs.sum(0)
        products += outputs.T @ outputs
        steps += len(outputs)
    mean = total / steps
    covariance: NDArray[np.float64] = (products / steps - torch.outer(mean, mean)).numpy()
    return covariance
