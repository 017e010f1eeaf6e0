"""Training a model further on new text, against training from scratch: bits on new and old text.

For each amount of new text, four models are measured on held-back text of both kinds: the old
model, one from scratch, one trained further, and one trained further with old text mixed in.

python benchmarks/continue_training.py old.txt new.txt --minutes 10
python benchmarks/continue_training.py prose shakespeare --steps 200 --kilobytes 10
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import chargen
from chargen.text.sources import read_all


def cut(corpus: str, held_back: int) -> tuple[str, str]:
    """Return the text without its last `held_back` characters, and those characters."""
    text = read_all([corpus], chargen.CorpusConfig())
    if not 0 < held_back < len(text):
        raise SystemExit(f"--held-back: 1 to {len(text) - 1:,} for {corpus}")
    return text[:-held_back], text[-held_back:]


def measure(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    old, old_test = cut(arguments.old, arguments.held_back)
    new, new_test = cut(arguments.new, arguments.held_back)
    (folder / "old.txt").write_text(old, "utf-8")
    budget = {arguments.budget: getattr(arguments, arguments.budget)}
    machine = {
        "threads": arguments.threads,
        "precision": arguments.precision,
        "samples": False,
        "force": True,
    }
    before = folder / "before"
    chargen.train(folder / "old.txt", before, **budget, **machine)
    more = {"start_from": before, "epochs": arguments.epochs}
    replay = {"replay": folder / "old.txt", "replay_share": arguments.replay_share}
    rows = []
    for kilobytes in arguments.kilobytes:
        part = new[: kilobytes * 1000]
        (folder / "new.txt").write_text(part, "utf-8")
        ways: dict[str, dict[str, Any]] = {
            "anew": budget,
            "from the old model": more,
            "with replay": {**more, **replay},
        }
        models = {"the old model": chargen.load(before)}
        for name, options in ways.items():
            chargen.train(folder / "new.txt", folder / "model", **options, **machine)
            models[name] = chargen.load(folder / "model")
        for name, lm in models.items():
            bits = {
                f"{kind}_bits": lm.score(test, streams=16).bits_per_char
                for kind, test in (("new", new_test), ("old", old_test))
            }
            rows.append({"characters": len(part), "model": name, **bits})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", help="text that the model knows")
    parser.add_argument("new", help="text that it is to learn")
    parser.add_argument("--minutes", type=float, default=10, help="for a new model")
    parser.add_argument("--steps", type=int, help="in place of minutes")
    parser.add_argument("--epochs", type=float, help="of a model that goes on, else the recipe's")
    parser.add_argument("--kilobytes", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--held-back", type=int, default=50_000, help="characters of each text")
    parser.add_argument("--replay-share", type=float, default=0.1)
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.budget = "minutes" if arguments.steps is None else "steps"
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(arguments, Path(folder))
    if arguments.json:
        print(json.dumps({"rows": rows}))
        return
    print(f"{'new characters':>15}  {'model':20}{'bits on new':>12}{'bits on old':>12}")
    for row in rows:
        figures = f"{row['new_bits']:12.3f}{row['old_bits']:12.3f}"
        print(f"{row['characters']:>15,}  {row['model']:20}{figures}")


if __name__ == "__main__":
    main()
