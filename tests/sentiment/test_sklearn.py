"""`chargen.sklearn.TextClassifier` as scikit-learn uses an estimator."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chargen
from chargen.sklearn import TextClassifier

from .making import LEARNING, QUICK, separable

pytest.importorskip("sklearn")

from sklearn.base import clone, is_classifier
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks, get_tags

OPTIONS = {name: value for name, value in (QUICK | LEARNING).items() if name != "epochs"}


@pytest.fixture
def made(tiny_lm: Path) -> TextClassifier:
    """A classifier that learns in a fraction of a second."""
    return TextClassifier(str(tiny_lm), epochs=12, ngrams=False, options=OPTIONS)


@pytest.mark.parametrize(
    "check",
    [
        "check_estimator_cloneable",
        "check_estimator_tags_renamed",
        "check_valid_tag_types",
        "check_estimator_repr",
        "check_no_attributes_set_in_init",
        "check_do_not_raise_errors_in_init_or_set_params",
        "check_mixin_order",
        "check_parameters_default_constructible",
        "check_get_params_invariance",
        "check_set_params",
    ],
)
def test_the_checks_of_scikit_learn_that_need_no_numbers(check: str) -> None:
    getattr(estimator_checks, check)("TextClassifier", TextClassifier())


def test_it_is_a_classifier_of_texts() -> None:
    assert is_classifier(TextClassifier())
    tags = get_tags(TextClassifier())
    assert tags.input_tags.string
    assert not tags.input_tags.two_d_array


def test_fit_and_predict(made: TextClassifier, tmp_path: Path) -> None:
    examples, unseen = separable(60), separable(40, seed=7)
    assert made.fit(examples.texts, examples.labels) is made
    assert made.classes_.tolist() == ["bad", "good"]
    chances = made.predict_proba(unseen.texts)
    np.testing.assert_allclose(chances.sum(1), 1, atol=1e-5)
    found = made.predict(np.array(unseen.texts))
    assert isinstance(found, np.ndarray)
    assert found.tolist() == [made.classes_[i] for i in chances.argmax(1)]
    assert made.score(unseen.texts, unseen.labels) > 0.9
    made.classifier_.save(tmp_path / "kept")
    kept = chargen.Classifier.load(tmp_path / "kept")
    np.testing.assert_array_equal(kept.predict_proba(unseen.texts), chances)


@pytest.mark.parametrize("classes", [(0, 1), (10, 9, -3), (True, False), ("10.5", "9.5")])
def test_labels_come_back_as_they_were_given(
    made: TextClassifier, classes: tuple[Any, ...]
) -> None:
    examples = separable(60, tuple(map(str, range(len(classes)))))
    labels = [classes[int(label)] for label in examples.labels]
    made.set_params(ngrams=True).fit(examples.texts, labels)
    assert made.classes_.tolist() == sorted(classes)
    assert made.predict_proba(examples.texts).shape == (60, len(classes))
    assert made.score(examples.texts, labels) > 0.9
    assert type(made.predict(examples.texts)[0].item()) is type(classes[0])


def test_a_column_of_labels_is_a_list_of_them(made: TextClassifier) -> None:
    examples = separable(40)
    labels = np.array(examples.labels)
    chances = made.fit(examples.texts, labels).predict_proba(examples.texts)
    with pytest.warns(DataConversionWarning):
        again = clone(made).fit(examples.texts, labels[:, None])
    np.testing.assert_array_equal(again.predict_proba(examples.texts), chances)
    with pytest.raises(ValueError, match="y should be a 1d array"):
        made.fit(examples.texts, np.zeros((40, 2), int))


def test_labels_that_look_the_same_are_refused(made: TextClassifier) -> None:
    with pytest.raises(chargen.CorpusError, match="differ only in blanks around them.*'a', 'a '"):
        made.fit(["x", "y", "z"], ["a", "a ", "b"])


def test_the_seed_decides(made: TextClassifier) -> None:
    examples = separable(40)
    first = made.fit(examples.texts, examples.labels).predict_proba(examples.texts)
    again = clone(made).fit(examples.texts, examples.labels).predict_proba(examples.texts)
    np.testing.assert_array_equal(first, again)
    other = clone(made).set_params(seed=3).fit(examples.texts, examples.labels)
    assert not np.array_equal(other.predict_proba(examples.texts), first)


def test_texts_are_cleaned_for_learning_as_for_predicting(made: TextClassifier) -> None:
    examples = separable(40)
    dirty = [text.replace(" ", "<br />") for text in examples.texts]
    made.set_params(ngrams=True, method="probe", epochs=None)
    chances = made.fit(examples.texts, examples.labels).predict_proba(examples.texts)
    cleaning = clone(made).set_params(options={"clean": "html", **OPTIONS})
    again = cleaning.fit(dirty, examples.labels).predict_proba(dirty)
    plain = clone(made).fit(dirty, examples.labels).predict_proba(dirty)
    assert np.abs(again - chances).max() < np.abs(plain - chances).max() / 10
    with pytest.raises(chargen.ConfigError, match="--label-map"):
        clone(made).set_params(options={"label_map": "bad=no,good=yes"}).fit(dirty, examples.labels)


def test_a_pipeline_is_cross_validated(made: TextClassifier) -> None:
    examples = separable(60)
    loud = [text.upper() for text in examples.texts]
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = make_pipeline(lower, made.set_params(ngrams=True))
    scores = cross_val_score(pipeline, loud, examples.labels, cv=3)
    assert scores.shape == (3,)
    assert scores.mean() > 0.8
    losses = cross_val_score(made, examples.texts, examples.labels, cv=2, scoring="neg_log_loss")
    assert np.isfinite(losses).all()


def test_parameters_are_searched(made: TextClassifier) -> None:
    examples = separable(40)
    search = GridSearchCV(made, {"epochs": [1, 40]}, cv=2)
    search.fit(examples.texts, examples.labels)
    assert search.best_params_ == {"epochs": 40}


def test_what_cannot_be_learnt_from_or_judged(made: TextClassifier, tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        made.predict(["a"])
    with pytest.raises(chargen.CorpusError, match="texts must be a list"):
        made.fit("great", ["pos"])
    with pytest.raises(chargen.CorpusError, match="2 texts and 1 labels"):
        made.fit(["a", "b"], ["pos"])
    with pytest.raises(chargen.CorpusError, match="the only label"):
        made.fit(["a", "b"], ["pos", "pos"])
    with pytest.raises(chargen.ConfigError, match="did you mean batch_size"):
        clone(made).set_params(options={"bach_size": 3}).fit(["a", "b"], [0, 1])
    with pytest.raises(chargen.ConfigError, match="options has ngrams, seed too"):
        clone(made).set_params(options={"seed": 3, "ngrams": True}).fit(["a", "b"], [0, 1])
    examples = separable(40)
    made.fit([*examples.texts, " "], [*examples.labels, "none"])
    assert made.classes_.tolist() == ["bad", "good"]  # there is nothing to learn the third by
    with pytest.raises(chargen.CorpusError, match=r"texts\[1\] is empty"):
        made.predict(["a", ""])


WITHOUT = """
import sys, chargen, chargen.sentiment.finetune
print('sklearn' in sys.modules)
sys.modules['sklearn.base'] = None
try: import chargen.sklearn
except chargen.MissingExtraError as error: print(error)
"""


def test_scikit_learn_is_asked_for_only_here() -> None:
    command = [sys.executable, "-c", WITHOUT]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    needed = "chargen.sklearn needs the extra: pip install 'chargen[sentiment]'"
    assert done.stdout.splitlines() == ["False", needed]
