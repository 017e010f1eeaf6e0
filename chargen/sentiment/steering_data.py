"""Labelled texts to fit steering vectors on (`chargen.sampling.steering`): given ones, or a model's
own as a classifier labels them.
"""

from __future__ import annotations

import numpy as np
import torch

from chargen.errors import CorpusError
from chargen.language_model import LanguageModel
from chargen.sampling.steering import Steering, fit_vectors
from chargen.sentiment.batching import TextEncoding
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.examples import Examples, subset
from chargen.sentiment.sentiment_unit import encoder_features, reader_of

MOST_TEXTS = 2_000
"""Labelled texts that are read."""

MOST_CHARACTERS = 500
"""Characters at the beginning of each that are."""

_STEP_TEXTS = 64
"""Texts from which it is taken how outputs vary from character to character."""

OWN_TEXTS, OWN_CHARACTERS = 400, 400
"""Texts that a model writes to have them labelled, and their length."""


def fit_steering(lm: LanguageModel, examples: Examples) -> Steering:
    """Fit a steering vector for each class.

    At most `MOST_TEXTS` of the examples are read, and `MOST_CHARACTERS` of each.

    Raises
    ------
    CorpusError
        Where there is only one class, or a class has a single text.
    """
    classes = examples.classes
    for label in classes:
        if examples.labels.count(label) < 2 or len(classes) < 2:
            raise CorpusError(
                f"{examples.source}: steering needs two classes or more with two texts or more in "
                f"each; {label!r} has {examples.labels.count(label)}"
            )
    if len(examples) > MOST_TEXTS:
        examples = subset(examples, MOST_TEXTS, seed=0)
    texts = [text[:MOST_CHARACTERS] for text in examples.texts]
    encoding = TextEncoding(lm.vocabulary, lm.backward)
    size, device = lm.model.hidden_size, lm.model.embedding.weight.device
    features = encoder_features(lm.model, encoding, texts)[:, size : 2 * size]  # (N, H)
    reader = reader_of(lm.model)
    outputs = (
        reader.outputs(0, torch.from_numpy(encoding.encode(text).astype(np.int64)).to(device))
        for text in texts[:: max(1, len(texts) // _STEP_TEXTS)]
    )
    return fit_vectors(classes, features, examples.labels, outputs, examples.source)


def fit_with_classifier(lm: LanguageModel, classifier: Classifier, seed: int = 0) -> Steering:
    """Fit steering vectors without labelled texts: a classifier labels what the model writes.

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
    rows = tuple(range(1, len(texts) + 1))
    return fit_steering(lm, Examples(tuple(texts), tuple(found), rows, "its own, as classified"))
