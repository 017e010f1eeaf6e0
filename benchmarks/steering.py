"""Effect of `chargen sample --steer`: share of texts to which a classifier gives the label.

    python benchmarks/steering.py checkpoints/reviews checkpoints/sentiment --data reviews.csv
    python benchmarks/steering.py checkpoints/reviews checkpoints/sentiment --stored

Steering vectors are fitted on labelled texts (--data), read from the checkpoint (--stored), or
fitted on the model's own texts as the classifier labels them. The same seeds are used for each
label and strength. Bits per character are those of the texts under the unsteered model.
"""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

import chargen
from chargen.runtime.device import set_threads
from chargen.sampling.steering import Steering, fit_steering, fit_with_classifier, stored_steering
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.config import ExamplesConfig
from chargen.sentiment.examples import read_examples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="checkpoint of a language model")
    parser.add_argument("classifier", help="checkpoint of a classifier, the judge")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--data", help="labelled texts to fit the vectors on")
    source.add_argument("--stored", action="store_true", help="those of the checkpoint")
    parser.add_argument("--clean", choices=("html",), default=None, help="of --data")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.0, 0.5, 1.0, 2.0])
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--length", type=int, default=400)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    lm, judge = chargen.load(arguments.model), Classifier.load(arguments.classifier)
    steering = find(lm, judge, arguments)
    if not arguments.json:
        print(steering.source, flush=True)
    rows = []
    for label in steering.classes:
        for strength in arguments.strengths:
            row = effect(lm.steered(steering, label, strength), lm, judge, label, arguments)
            row = {"source": steering.source, "label": label, "strength": strength, **row}
            rows.append(row)
            if not arguments.json:
                print(
                    f"{label:>10}  strength {strength:4.1f}  share {row['share']:.3f}"
                    f"  probability {row['probability']:.3f}"
                    f"  {row['bits_per_char']:.2f} bits per character",
                    flush=True,
                )
    if arguments.json:
        print(json.dumps(rows, ensure_ascii=False))


def find(lm: chargen.LanguageModel, judge: Classifier, arguments: argparse.Namespace) -> Steering:
    """Return the steering vectors that the arguments ask for."""
    if arguments.stored:
        steering = stored_steering(lm.checkpoint)
        if steering is None:
            raise SystemExit(f"{arguments.model} has no steering stored")
        return steering
    if arguments.data:
        config = ExamplesConfig(clean=arguments.clean)
        examples = read_examples(arguments.data, config)
        return fit_steering(lm, examples.texts, examples.labels, examples.source)
    return fit_with_classifier(lm, judge.predict, judge.labels, arguments.seed)


def effect(
    writer: chargen.LanguageModel,
    lm: chargen.LanguageModel,
    judge: Classifier,
    label: str,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Return figures of the judge and the unsteered model about texts of a steered model."""
    samples = writer.sample(
        num_samples=arguments.samples,
        max_chars=arguments.length,
        temperature=arguments.temperature,
        seed=arguments.seed,
    )
    texts = [sample.text for sample in samples if sample.text.strip()]
    probabilities = judge.predict_proba(texts)
    column = judge.labels.index(label)
    nats = sum(-float(lm.score(text, as_is=True).log_probs.sum()) for text in texts)
    return {
        "share": float((probabilities.argmax(-1) == column).mean()),
        "probability": float(probabilities[:, column].mean()),
        "bits_per_char": nats / math.log(2) / sum(map(len, texts)),
        "texts": len(texts),
    }


if __name__ == "__main__":
    main()
