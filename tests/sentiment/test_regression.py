"""Regressions are scikit-learn's; what they say of a text out of fold did not see it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.sentiment.classifier import Classifier
from chargen.sentiment.learning import fill_head, standardise
from chargen.sentiment.members import NetworkMember
from chargen.sentiment.network import LIMIT, EncodedTexts, pooled_features, text_encodings
from chargen.sentiment.regression import (
    NaiveBayesRegression,
    Regression,
    SelfTraining,
    log_losses,
)
from chargen.sentiment.splitting import Targets, fold_numbers

from .making import CHARS, make_lm, make_network, separable

EVEN = np.zeros(2)
chance = np.random.default_rng(0)
FEATURES = chance.normal(size=(60, 12)).astype(np.float32)


def targets_of(classes: Any, count: int = 0, weights: Any = None) -> Targets:
    classes = np.asarray(classes, np.int64)
    weights = np.ones(len(classes)) if weights is None else weights
    return Targets(classes, np.asarray(weights, np.float32), count or int(classes.max()) + 1)


TWO = targets_of((FEATURES[:, 0] + 0.5 * FEATURES[:, 1] > 0).astype(int))
THREE = targets_of(np.digitize(FEATURES[:, 0], [-0.5, 0.5]))


def test_probabilities_are_those_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    for wanted in (TWO, THREE):
        linear = Regression(FEATURES, (0.25,)).fit(wanted, 0.25)
        again = LogisticRegression(C=0.25, max_iter=1000).fit(FEATURES, wanted.classes)
        chances = np.exp(linear.evidence(FEATURES, np.zeros(wanted.num_classes)))
        chances /= chances.sum(-1, keepdims=True)
        np.testing.assert_allclose(chances, again.predict_proba(FEATURES), atol=2e-3)


def test_l1_leaves_few_features() -> None:
    used = {
        penalty: (np.abs(Regression(FEATURES, (1,), penalty).fit(TWO, 0.1).weights[1]) > 1e-9).sum()
        for penalty in ("l1", "l2")
    }
    assert used["l1"] < used["l2"] == 12


def test_weights_count() -> None:
    rare = targets_of(TWO.classes, weights=np.where(TWO.classes == 1, 9.0, 1.0))
    shares = [
        Regression(FEATURES, (1,)).fit(each, 1.0).evidence(FEATURES, EVEN).argmax(-1).mean()
        for each in (TWO, rare)
    ]
    assert shares[1] > shares[0]


def test_a_class_without_a_text_is_hardly_likely() -> None:
    for regression in (
        Regression(FEATURES, (1,)),
        NaiveBayesRegression(sparse(FEATURES > 0), (1,)),
    ):
        linear = regression.fit(targets_of(TWO.classes * 2, 4), 1.0)
        assert (linear.evidence(FEATURES, np.zeros(4)).argmax(-1) % 2 == 0).all()
    prior = targets_of([0, 0, 0, 2], 4).prior
    np.testing.assert_allclose(np.exp(prior), [0.75, 0, 0.25, 0], atol=1e-8)
    assert np.isfinite(prior).all()


def sparse(values: Any) -> Any:
    from scipy.sparse import csr_matrix

    return csr_matrix(values.astype(np.float32))


def test_what_has_no_known_feature_says_nothing() -> None:
    has = np.eye(6)[np.arange(12) % 6]
    wanted = targets_of([0, 0, 0, 0, 1, 1] * 2)
    folds = np.arange(12) % 6  # what a text has, no other fold has
    for kind in (Regression, NaiveBayesRegression):
        found, _ = kind(sparse(has), (1,)).out_of_fold(wanted, folds)
        assert not found.any()


@pytest.mark.parametrize("wanted", [TWO, THREE])
def test_log_count_ratios_are_those_of_wang_and_manning(wanted: Targets) -> None:
    from sklearn.linear_model import LogisticRegression

    has = FEATURES > 0
    found = NaiveBayesRegression(sparse(has), (1,)).fit(wanted, 1.0)
    for number in range(wanted.num_classes):
        inside = wanted.classes == number
        p, q = 1 + has[inside].sum(0), 1 + has[~inside].sum(0)
        ratio = np.log((p / p.sum()) / (q / q.sum()))
        model = LogisticRegression(C=1.0, solver="liblinear", tol=1e-6).fit(has * ratio, inside)
        scale = 2 if wanted is TWO else 1  # of two classes each has half
        np.testing.assert_allclose(scale * found.weights[number], model.coef_[0] * ratio, atol=2e-3)


def self_training() -> SelfTraining:
    """Words 0 and 1 stand in labelled texts of `TWO`, words 2 and 3 in unlabelled ones alone."""
    taught = np.random.default_rng(1).normal(size=(200, 12)).astype(np.float32)
    side = (taught[:, 0] + 0.5 * taught[:, 1] > 0).astype(int)
    words = np.r_[np.eye(4)[TWO.classes], np.eye(4)[2 + side]]
    return SelfTraining(sparse(words), (1.0,), Regression(FEATURES, (1.0,)), taught)


def test_a_teacher_tells_what_words_mean_that_no_labelled_text_has() -> None:
    both = self_training()
    linear = both.fit(TWO, 1.0)
    assert (np.sign(linear.weights[1]) == [-1, 1, -1, 1]).all()
    # The same, by hand: what the teacher finds likelier, by how much it does.
    chances = np.exp(
        both.teacher_features @ (said := both.teacher.fit(TWO, 1.0)).weights.T + said.biases
    )
    chances /= chances.sum(-1, keepdims=True)
    classes = np.r_[TWO.classes, chances.argmax(-1)]
    all_texts = targets_of(classes, 2, np.r_[np.ones(60), np.abs(chances[:, 1] - chances[:, 0])])
    again = NaiveBayesRegression(both.features, (1.0,)).fit(all_texts, 1.0)
    np.testing.assert_allclose(linear.weights, again.weights, rtol=1e-4)


def test_a_teacher_has_not_seen_what_is_held_out() -> None:
    both, rows = self_training(), np.arange(40)
    one = both.fit(TWO, 1.0, rows)
    other = targets_of(np.r_[TWO.classes[:40], 1 - TWO.classes[40:]])
    np.testing.assert_array_equal(one.weights, both.fit(other, 1.0, rows).weights)
    found, _ = both.out_of_fold(TWO, np.arange(60) % 5)
    assert found.shape == (60, 2)
    assert (found.argmax(-1) == TWO.classes).all()


def test_out_of_fold_a_text_is_judged_by_the_others() -> None:
    folds = np.arange(60) % 5
    regression = Regression(FEATURES, (0.5,))
    found, strength = regression.out_of_fold(TWO, folds)
    assert strength == 0.5
    for fold in (0, 3):
        linear = regression.fit(TWO, 0.5, np.flatnonzero(folds != fold))
        wanted = linear.evidence(FEATURES[folds == fold], TWO.prior)
        np.testing.assert_allclose(found[folds == fold], wanted)
    random = targets_of(chance.integers(0, 2, 60))
    noise, _ = Regression(FEATURES, (100.0,)).out_of_fold(random, folds)
    assert (noise.argmax(-1) == random.classes).mean() < 0.7  # it knows them by heart otherwise


def test_the_strength_of_least_loss_is_chosen() -> None:
    folds = np.arange(60) % 5
    losses = {}
    for strength in (1e-6, 0.3, 1e5):
        found, _ = Regression(FEATURES, (strength,)).out_of_fold(THREE, folds)
        losses[strength] = log_losses(THREE.prior + found, THREE.classes).mean()
    _, chosen = Regression(FEATURES, tuple(losses)).out_of_fold(THREE, folds)
    assert losses[chosen] == min(losses.values())


# ---------------------------------------------------------------- folds


@given(st.lists(st.tuples(st.sampled_from("abcdefghij"), st.integers(0, 3)), min_size=1))
def test_folds(pairs: list[tuple[str, int]]) -> None:
    texts, targets = zip(*pairs, strict=True)
    found = fold_numbers(texts, targets_of(targets), seed=1)
    assert len(found) == len(texts)
    assert found.max() < 5
    assert set(range(found.max() + 1)) <= set(found.tolist())  # none is empty
    assert len({(text, fold) for text, fold in zip(texts, found, strict=True)}) == len(set(texts))
    distinct = Counter(number for _, number in dict.fromkeys(pairs))
    rarest = {text: min((n for t, n in pairs if t == text), key=distinct.get) for text in texts}
    of_class = Counter(rarest.values())
    for text, fold in zip(texts, found, strict=True):
        assert (fold < 0) == (of_class[rarest[text]] == 1)  # else nothing is learnt of its class
    for number, count in of_class.items():
        folds = {int(f) for t, f in zip(texts, found, strict=True) if rarest[t] == number}
        assert len(folds) == min(5, count, max(of_class.values()))
    for fold in range(found.max() + 1):  # there is something to tell apart
        assert len(set(np.array(targets)[found != fold])) >= min(2, len(set(targets)))


def test_folds_follow_the_seed() -> None:
    texts = [str(number) for number in range(40)]
    made = [fold_numbers(texts, targets_of([0, 1] * 20), seed).tolist() for seed in (0, 0, 1)]
    assert made[0] == made[1] != made[2]


# ---------------------------------------------------------------- of an encoder


def test_a_probe_in_a_head_says_what_the_regression_says() -> None:
    examples = separable(50)
    network = make_network(make_lm(hidden_size=12), detectors=0, head_size=0)
    before = {name: value.clone() for name, value in network.encoders.state_dict().items()}
    encoded = EncodedTexts(examples.texts, text_encodings(network, [CHARS]))
    features = standardise(network, pooled_features(network, encoded))
    assert features.shape == (50, 36)
    assert np.abs(features).max() <= LIMIT
    wanted = targets_of([examples.classes.index(label) for label in examples.labels])
    linear = Regression(features, (0.25,)).fit(wanted, 0.25)
    fill_head(network, linear)
    chances = np.exp(linear.evidence(features, EVEN))
    found = Classifier([NetworkMember(network, [CHARS])], examples.classes)
    np.testing.assert_allclose(
        found.predict_proba(examples.texts), chances / chances.sum(-1, keepdims=True), atol=1e-5
    )
    after = network.encoders.state_dict()
    assert all((after[name] == value).all() for name, value in before.items())
