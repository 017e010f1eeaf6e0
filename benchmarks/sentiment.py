"""Accuracy from few and many labels: TF-IDF, and our classifier with or without pretraining.

    python benchmarks/sentiment.py ../shared/reviews --encoder checkpoints/reviews --json \
        --data imdb --labels 2000 --minutes 5 --out checkpoints/imdb-2000

FOLDER holds imdb_{train,test}.csv.xz and imdb_unsup.txt.xz (Maas et al. 2011) or
sst2_{train,dev,test}.csv (Socher et al. 2013). One call gives one row of the table: N stratified
labels of the official training split (some held back for validation if the encoder is fine-tuned),
and the official test split (or --test-texts of it) for the figures, on which no choice is made.

Prints one object: accuracy of TF-IDF with logistic regression on the same labels, of our classifier
(also by the number of words of a text) and of each of its members alone, with texts per second of
processor time; the results of each member on held-out labels, including members that were left out;
seconds of training, and the ratio of errors.
With --trained, --out is a classifier of the labels pos and neg that is only evaluated.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from chargen.cli.progress import reporter_for
from chargen.runtime.device import set_threads
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.compare import tfidf
from chargen.sentiment.config import ExamplesConfig
from chargen.sentiment.examples import Examples, read_examples
from chargen.sentiment.finetune import finetune
from chargen.sentiment.metrics import evaluate
from chargen.sentiment.splitting import subset
from chargen.storage import checkpoint

FILES = {
    "imdb": ("imdb_train.csv.xz", "imdb_test.csv.xz", "imdb_unsup.txt.xz", None),
    "sst2": ("sst2_train.csv", "sst2_test.csv", None, "sst2_dev.csv"),
}


WORDS = (10, 30, 100)
"""Boundaries between the classes of text length, in words."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoder", nargs="+", help="one, or a forward and a backward one")
    parser.add_argument("--trained", action="store_true", help="evaluate --out as it is")
    parser.add_argument("--data", choices=FILES, default="imdb")
    parser.add_argument("--labels", type=int)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--from-scratch", action="store_true")
    parser.add_argument("--unlabelled", action="store_true", help="n-grams read them too")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="other options")
    parser.add_argument("--test-texts", type=int, help="only so many test texts (default: all)")
    parser.add_argument("--skip", type=int, default=0, help="so many of them first")
    parser.add_argument("--on-valid", action="store_true", help="look at validation, not at test")
    parser.add_argument("--no-baseline", action="store_true")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    if not arguments.trained and not arguments.encoder:
        parser.error("--encoder is needed to train a classifier")
    row = judge(arguments) if arguments.trained else measure(arguments)
    print(json.dumps(row) if arguments.json else "\n".join(f"{k}: {v}" for k, v in row.items()))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train a classifier and return one row of the table."""
    train_file, test_file, unlabelled, valid = FILES[arguments.data]
    reading = ExamplesConfig(clean="html")
    options = {
        "clean": "html",
        "labels": arguments.labels,
        "minutes": arguments.minutes,
        "epochs": arguments.epochs,
        "from_scratch": arguments.from_scratch,
        "seed": arguments.seed,
        "valid": valid and str(arguments.folder / valid),
        **{name: json.loads(value) for name, value in (s.split("=", 1) for s in arguments.set)},
    }
    if arguments.unlabelled and unlabelled:
        options["unlabelled"] = str(arguments.folder / unlabelled)
    data = arguments.folder / train_file
    run = finetune(
        data, arguments.encoder, arguments.out, force=True, reporter=reporter_for(False), **options
    )
    row: dict[str, Any] = {
        "data": arguments.data,
        "labels": arguments.labels,
        "encoder": "random weights" if arguments.from_scratch else arguments.encoder,
        "options": {k: v for k, v in options.items() if v is not None},
        "seconds": run.seconds,
        "valid": run.valid,
        # of each member on held-out labels
        "votes": checkpoint.load(arguments.out).document("config")["results"].get("votes"),
    }
    if arguments.on_valid:
        return row
    test = some(read_examples(str(arguments.folder / test_file), reading), arguments)
    classifier = Classifier.load(arguments.out, precision="auto")
    row |= {"test_texts": len(test)} | parts(classifier, test)
    if not arguments.no_baseline:
        examples = read_examples(str(data), reading)
        if arguments.labels:
            examples = subset(examples, arguments.labels, arguments.seed)
        row["tfidf"] = baseline(examples, test)
        row["errors_over_tfidf"] = (1 - row["accuracy"]) / (1 - row["tfidf"])
    return row


def judge(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of a trained classifier on a test split."""
    names = "0=neg,1=pos" if arguments.data == "sst2" else None
    reading = ExamplesConfig(clean="html", label_map=names)
    test = read_examples(str(arguments.folder / FILES[arguments.data][1]), reading)
    test = some(test, arguments)
    classifier = Classifier.load(arguments.out, precision="auto")
    return {"data": arguments.data, "test_texts": len(test)} | parts(classifier, test)


def some(examples: Examples, arguments: argparse.Namespace) -> Examples:
    """Return the examples asked for from a fixed shuffle, or all of it."""
    order = list(range(len(examples)))
    random.Random(0).shuffle(order)
    return examples.select(order[arguments.skip :][: arguments.test_texts])


def parts(classifier: Classifier, test: Examples) -> dict[str, Any]:
    """Return the figures of the whole classifier, and the accuracy of each member alone.

    Each member reads the texts once: the logits of the whole are the sum of the members' logits.
    """
    prior = 0.0 if classifier.prior is None else classifier.prior.numpy()
    summed = np.zeros((len(test), len(classifier.labels))) + prior
    members: dict[str, Any] = {}
    seconds = 0.0
    for member in classifier.members:
        alone = Classifier([member], classifier.labels, classifier.clean, classifier.prior)
        began = time.process_time()
        probabilities = alone.predict_proba(test.texts)
        spent = time.process_time() - began
        summed += np.log(np.maximum(probabilities, 1e-30)) - prior
        seconds += spent
        figures = evaluate(test.labels, probabilities, classifier.labels)
        members[member.name] = {
            "accuracy": figures["accuracy"],
            "texts_per_second": len(test) / spent,
        }
    whole = softmax(summed, 1)
    figures = evaluate(test.labels, whole, classifier.labels)
    right = whole.argmax(-1) == [classifier.labels.index(label) for label in test.labels]
    words = np.digitize([len(text.split()) for text in test.texts], WORDS)
    by_words = {
        f"{low} to {high - 1}": [float(right[words == index].mean()), int((words == index).sum())]
        for index, (low, high) in enumerate(pairwise((0, *WORDS, 10**6)))
        if (words == index).any()
    }
    names = ("accuracy", "macro_f1", "log_loss", "ece")
    return {
        **{name: figures[name] for name in names},
        "texts_per_second": len(test) / seconds,
        "members": members,
        "accuracy_by_words": by_words,
    }


def baseline(train: Examples, test: Examples) -> float:
    """Return the accuracy of TF-IDF with logistic regression."""
    model = tfidf(train.texts, train.labels, characters=False, seed=0)
    classes = [str(label) for label in model.classes_]
    figures = evaluate(test.labels, model.predict_proba(test.texts), classes)
    return float(figures["accuracy"])


if __name__ == "__main__":
    main()
