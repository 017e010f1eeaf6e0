"""Whether texts written for a label match it: how often a classifier recognizes the label.

    python benchmarks/labels.py table.csv --text-column body --label-column author --minutes 10

A model is trained on the labelled table and writes the same number of texts for each label. The
judge is TF-IDF with logistic regression, fitted on the same table. The share of texts that it
labels as intended is printed with chance, the share of one label among all.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from typing import Any

import chargen
from chargen.sentiment.compare import tfidf
from chargen.sentiment.config import ExamplesConfig
from chargen.sentiment.examples import read_examples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", help="labelled texts: .csv, .tsv or .jsonl")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--label-column", default="label")
    parser.add_argument("--minutes", type=float, help="of training")
    parser.add_argument("--steps", type=int, help="of training, in place of minutes")
    parser.add_argument("--hidden-size", type=int)
    parser.add_argument("--samples", type=int, default=200, help="texts for each label")
    parser.add_argument("--length", type=int, default=400)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    results = measure(arguments := parser.parse_args())
    if arguments.json:
        print(json.dumps(results, ensure_ascii=False))
        return
    for row in results["labels"]:
        print(f"{row['label']:>20}  heard in {row['share']:.3f} of {row['texts']} texts")
    print(f"{'all':>20}  {results['share']:.3f}, by chance {results['chance']:.3f}")
    print(f"{'validation':>20}  {results['valid_bits']:.3f} bits per character")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train a model, generate texts for each label, and classify them."""
    columns = {"text_column": arguments.text_column, "label_column": arguments.label_column}
    examples = read_examples(arguments.table, ExamplesConfig(**columns))
    judge = tfidf(examples.texts, examples.labels, characters=False, seed=arguments.seed)
    with tempfile.TemporaryDirectory(prefix="chargen-labels-") as folder:
        run = chargen.train(
            arguments.table,
            f"{folder}/model",
            minutes=arguments.minutes,
            steps=arguments.steps,
            hidden_size=arguments.hidden_size,
            seed=arguments.seed,
            threads=arguments.threads,
            precision=arguments.precision,
            samples=False,
            **columns,
        )
        lm = chargen.load(run.directory)
    rows, recognized, written = [], 0, 0
    for label in lm.vocabulary.labels:
        samples = lm.sample(
            num_samples=arguments.samples,
            label=label,
            max_chars=arguments.length,
            temperature=arguments.temperature,
            seed=arguments.seed,
        )
        right = int((judge.predict([sample.text for sample in samples]) == label).sum())
        rows.append({"label": label, "texts": len(samples), "share": right / len(samples)})
        recognized, written = recognized + right, written + len(samples)
    chance = 1 / len(rows)
    return {
        "labels": rows,
        "share": recognized / written,
        "chance": chance,
        "valid_bits": run.valid_bits,
    }


if __name__ == "__main__":
    main()
