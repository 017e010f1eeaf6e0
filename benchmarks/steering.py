"""What `chargen sample --steer` does: share of written texts that a classifier gives the label.

    python benchmarks/steering.py checkpoints/reviews checkpoints/sentiment --data reviews.csv
    python benchmarks/steering.py checkpoints/reviews checkpoints/sentiment --ways means unit

Directions are fitted on labelled texts, on the model's own as the classifier labels them where
there is no --data, or are those stored in the checkpoint (--stored). For each label and strength
the same seeds are drawn; bits per character are those of the texts under the unsteered model.
The way "probe" takes the weights of the classifier, which must then be a probe of this model.
"""

from __future__ import annotations

import argparse
import json

import torch

import chargen
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.config import ExamplesConfig
from chargen.sentiment.directions import (
    WAYS,
    effect,
    fit_steering,
    fit_with_classifier,
    stored_steering,
)
from chargen.sentiment.examples import read_examples
from chargen.sentiment.steering import Steering


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="checkpoint of a language model")
    parser.add_argument("classifier", help="checkpoint of a classifier, the judge")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--data", help="labelled texts to fit the directions on")
    source.add_argument("--stored", action="store_true", help="those of the checkpoint")
    parser.add_argument("--clean", choices=("html",), default=None, help="of --data")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["means"])
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.0, 0.5, 1.0, 2.0])
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--length", type=int, default=400)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    lm, judge = chargen.load(arguments.model), Classifier.load(arguments.classifier)
    rows = []
    for way in arguments.ways[:1] if arguments.stored else arguments.ways:
        steering = find(lm, judge, way, arguments)
        if not arguments.json:
            print(steering.source, flush=True)
        for label in steering.labels:
            for row in effect(
                lm,
                steering,
                judge,
                label,
                arguments.strengths,
                arguments.samples,
                max_chars=arguments.length,
                temperature=arguments.temperature,
                seed=arguments.seed,
            ):
                rows.append({"way": way, "source": steering.source, "label": label, **row})
                if not arguments.json:
                    print(
                        f"{label:>10}  strength {row['strength']:4.1f}  share {row['share']:.3f}"
                        f"  probability {row['probability']:.3f}"
                        f"  {row['bits_per_char']:.2f} bits per character",
                        flush=True,
                    )
    if arguments.json:
        print(json.dumps(rows, ensure_ascii=False))


def find(
    lm: chargen.LanguageModel, judge: Classifier, way: str, arguments: argparse.Namespace
) -> Steering:
    """The directions as asked for."""
    if arguments.stored:
        steering = stored_steering(lm)
        if steering is None:
            raise SystemExit(f"{arguments.model} has no steering stored")
        return steering
    if arguments.data:
        config = ExamplesConfig(clean=arguments.clean)
        return fit_steering(lm, read_examples(arguments.data, config), way, judge)
    return fit_with_classifier(lm, judge, way, arguments.seed)


if __name__ == "__main__":
    main()
