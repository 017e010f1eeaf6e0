"""`chargen.finetune` as a scikit-learn estimator, for pipelines and cross-validation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import ConfigError, CorpusError, MissingExtraError, brief
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.finetune import finetune
from chargen.text.labels import label_of

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d
except ImportError as error:
    raise MissingExtraError("chargen.sklearn", "sentiment") from error


class TextClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn text classifier on top of a language model.

    Parameters
    ----------
    encoder : path, or sequence of two paths
        Checkpoints of language models, as for `chargen.finetune`; the package contains ``reviews``.
    method, minutes, epochs, ngrams, seed
        Options of `chargen.finetune`.
    options : mapping, optional
        Further options by name.

    Attributes
    ----------
    classes_ : (C,) array
        The labels with their original types, sorted.
    classifier_ : Classifier
        The trained classifier; ``classifier_.save(directory)`` writes it.

    Examples
    --------
    >>> cross_val_score(TextClassifier("reviews", ngrams=False), X, y)  # doctest: +SKIP
    """

    def __init__(
        self,
        encoder: str | Path | Sequence[str | Path] = "reviews",
        *,
        method: str = "auto",
        minutes: float | None = None,
        epochs: float | None = None,
        ngrams: bool = True,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.encoder = encoder
        self.method = method
        self.minutes = minutes
        self.epochs = epochs
        self.ngrams = ngrams
        self.seed = seed
        self.options = options

    def fit(self, X: Iterable[str], y: Any) -> TextClassifier:
        """Train on texts and their labels; raises the errors of `chargen.finetune`."""
        check_classification_targets(y)
        classes, indices = np.unique(column_or_1d(y, warn=True), return_inverse=True)
        names = [label_of(label, "y") for label in classes]
        if len(set(names)) < len(names):
            raise CorpusError(
                "y has labels that differ only in blanks around them or in their Unicode form: "
                f"{brief(classes.tolist())}"
            )
        options = self.get_params(deep=False)
        further = options.pop("options") or {}
        if twice := sorted(options.keys() & further.keys()):
            raise ConfigError(f"options has {', '.join(twice)} too: give each option once")
        if "label_map" in further:
            raise ConfigError("--label-map renames labels of files: rename those of y instead")
        run = finetune((X, [names[i] for i in indices]), **options, **further)
        if not run.finished:
            raise KeyboardInterrupt
        self.classifier_: Classifier = run.classifier
        order = [names.index(label) for label in self.classifier_.labels]
        self._columns = np.argsort(order)  # `classes_` is sorted by value, the classifier by name
        self.classes_ = classes[np.sort(order)]  # without classes of empty texts only
        return self

    def predict_proba(self, X: Iterable[str]) -> NDArray[np.float32]:
        """Return the probabilities of the labels, (N, C), in the order of `classes_`."""
        check_is_fitted(self, "classifier_")
        return self.classifier_.predict_proba(X)[:, self._columns]

    def predict(self, X: Iterable[str]) -> NDArray[Any]:
        """Return the likeliest label of each text, (N,)."""
        chosen = self.predict_proba(X).argmax(-1)
        labels: NDArray[Any] = self.classes_[chosen]
        return labels

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags
