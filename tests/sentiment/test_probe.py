"""The probe is scikit-learn's logistic regression on the encoder's features, and nothing else."""

from __future__ import annotations

import builtins
from inspect import signature
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from chargen.errors import MissingExtraError
from chargen.sentiment import probe as probe_module
from chargen.sentiment.batching import EncodedTexts, eyes_of
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.examples import Examples
from chargen.sentiment.network import ClassifierNetwork
from chargen.sentiment.probe import fit_probe, pooled_features
from chargen.sentiment.storage import weights_of

from .making import CHARS, make_lm, make_network, planted, same

BARE = {"detectors": 0, "head_size": 0}
DATA = planted(50)


def network(**sizes: Any) -> ClassifierNetwork:
    return make_network(make_lm(hidden_size=12), **(BARE | sizes))


def fit(
    made: ClassifierNetwork, examples: Examples = DATA, penalty: str = "l2", **options: Any
) -> tuple[str, Any]:
    encoded = EncodedTexts(examples.texts, eyes_of(made, [CHARS]))
    classes = examples.classes
    targets = np.array([classes.index(label) for label in examples.labels])
    given: dict[str, Any] = {"class_weights": False, "precision": "float32", "seed": 0} | options
    return fit_probe(made, encoded, targets, penalty, **given), targets


def regression(penalty: str, strength: float) -> LogisticRegression:
    by_name = signature(LogisticRegression).parameters["penalty"].default == "l2"  # before 1.8
    share = {"l1_ratio": 1.0 if penalty == "l1" else 0.0}
    told: dict[str, Any] = {"penalty": penalty} if by_name else share
    return LogisticRegression(
        C=strength,
        solver="saga" if penalty == "l1" else "lbfgs",
        max_iter=20_000,
        tol=1e-6,
        random_state=0,
        **told,
    )


@pytest.mark.parametrize("penalty", ["l2", "l1"])
@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_are_those_of_scikit_learn(
    penalty: str, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_module, "STRENGTHS", (0.25,))
    examples = planted(60, ("bad", "good", "so so")[:classes])
    made = network(num_classes=classes)
    features = pooled_features(made, EncodedTexts(examples.texts, eyes_of(made, [CHARS])))
    note, targets = fit(made, examples, penalty)
    scaled = (features - features.mean(0)) / np.sqrt(features.var(0) + made.head[0].eps)
    wanted = regression(penalty, 0.25).fit(scaled, targets).predict_proba(scaled)
    classifier = Classifier(made, [CHARS], examples.classes)
    found = classifier.predict_proba(examples.texts)
    # l1 has a flat minimum, which its solver reaches slowly.
    np.testing.assert_allclose(found, wanted, atol=0.02 if penalty == "l1" else 2e-3)
    assert penalty in note
    assert "36 features" in note


def test_the_strength_with_the_least_loss_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    made = network()
    monkeypatch.setattr(probe_module, "STRENGTHS", (1e-9, 0.5))
    fit(made)
    confidence = Classifier(made, [CHARS], DATA.classes).predict_proba(DATA.texts).max(-1)
    assert confidence.mean() > 0.6  # the other would say half and half


def test_l1_leaves_few_units() -> None:
    counts = {}
    for penalty in ("l1", "l2"):
        made = network()
        note, _ = fit(made, penalty=penalty)
        counts[penalty] = int((made.head[-1].weight[1].abs() > 1e-12).sum())
        assert f"{counts[penalty]} of them used" in note
    assert counts["l1"] < counts["l2"] == 36


def test_both_classes_have_opposite_weights() -> None:
    made = network()
    fit(made)
    weights, bias = made.head[-1].weight, made.head[-1].bias
    assert torch.equal(weights[0], -weights[1])
    assert torch.equal(bias[0], -bias[1])


def test_class_weights_count_the_rare_one() -> None:
    rare = DATA.select([i for i, label in enumerate(DATA.labels) if label == "bad" or i % 10 == 1])
    shares = []
    for class_weights in (False, True):
        made = network()
        fit(made, rare, class_weights=class_weights)
        found = Classifier(made, [CHARS], rare.classes).predict_proba(rare.texts)
        shares.append(found[:, 1].mean())
    assert shares[1] > shares[0]


def test_the_encoder_is_left_alone() -> None:
    made = network()
    before = weights_of(made)
    fit(made)
    after = weights_of(made)
    encoder = [name for name in before if name.startswith("encoders")]
    assert same({k: before[k] for k in encoder}, {k: after[k] for k in encoder})
    assert not made.training


def test_the_same_seed_gives_the_same_probe() -> None:
    made = [network() for _ in range(2)]
    for each in made:
        fit(each, penalty="l1", seed=3)
    assert same(weights_of(made[0]), weights_of(made[1]))


@pytest.mark.parametrize("penalty", ["l1", "l2"])
@pytest.mark.parametrize("count", [2, 3, 4, 5])
@pytest.mark.filterwarnings("error")
def test_very_few_texts(count: int, penalty: str) -> None:
    # Cross-validation would need two of each class.
    made = network()
    few = DATA.select(range(count))
    fit(made, few, penalty, class_weights=True)
    found = Classifier(made, [CHARS], few.classes).predict_proba(few.texts)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)


def test_features_are_in_the_order_of_the_texts() -> None:
    made = network()
    encoded = EncodedTexts(DATA.texts, eyes_of(made, [CHARS]))
    features = pooled_features(made, encoded)
    assert features.shape == (50, 36)
    for index in (0, 7, 49):
        with torch.no_grad():
            alone = made.features(encoded.readings([index], "cpu"))[0].numpy()
        np.testing.assert_allclose(features[index], alone, atol=1e-5)
    assert pooled_features(made, EncodedTexts([], eyes_of(made, [CHARS]))).shape == (0, 36)


def test_how_the_penalty_is_told() -> None:
    # Before scikit-learn 1.8 by its name.
    assert probe_module._penalty("l1", {}) == {"penalty": "l1"}
    known = {"use_legacy_attributes": None}
    assert probe_module._penalty("l1", known)["l1_ratios"] == (1.0,)
    assert probe_module._penalty("l2", known)["l1_ratios"] == (0.0,)


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return plain(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingExtraError, match=r"--method probe needs .*chargen\[sentiment\]"):
        fit(network())
