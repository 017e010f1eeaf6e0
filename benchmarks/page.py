"""Characters a second of an exported page, in headless Chromium driven by Playwright.

python benchmarks/page.py
python benchmarks/page.py --model checkpoints/reviews
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

import chargen
from chargen.interchange.model_page import model_page
from chargen.language_model import LanguageModel
from chargen.lm.config import ModelConfig
from chargen.lm.model import CharLM
from chargen.text.vocabulary import ByteVocabulary


def random_model(cell: str, hidden_size: int) -> LanguageModel:
    """Return a byte-level model with random weights, which do not affect the speed."""
    vocabulary = ByteVocabulary()
    sizes = {"hidden_size": hidden_size, "num_layers": 1, "embedding_size": 64}
    rates = {"dropout": 0.0, "embedding_dropout": 0.0, "weight_dropout": 0.0}
    config = ModelConfig(vocabulary_size=vocabulary.size, cell=cell, **sizes, **rates)
    return LanguageModel(CharLM(config), vocabulary)


def rates(page: Path, characters: int, repeats: int) -> list[float]:
    """Return the speed that the page shows for each text, in characters a second.

    A first text, for warm-up, is left out.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        tab = browser.new_page()
        tab.goto(page.absolute().as_uri())
        tab.fill("#length", str(characters))
        speeds = []
        for _ in range(repeats + 1):
            tab.locator("#another:enabled").click()
            tab.locator("#write:enabled").wait_for(timeout=600_000)
            match = re.search(r"([\d,]+) a second", tab.locator("#status").inner_text())
            assert match is not None
            speeds.append(float(match[1].replace(",", "")))
        browser.close()
    return speeds[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a checkpoint in place of a random model")
    parser.add_argument("--cell", default="lstm", choices=["lstm", "gru", "rnn"])
    parser.add_argument("--hidden-size", type=int, default=512)
    parser.add_argument("--characters", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.model:
        lm = chargen.load(arguments.model)
    else:
        lm = random_model(arguments.cell, arguments.hidden_size)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(model_page(lm, "benchmark"), "utf-8")
        speeds = rates(page, arguments.characters, arguments.repeats)
        result = {
            "cell": lm.model.config.cell,
            "hidden_size": lm.model.hidden_size,
            "vocabulary_size": lm.vocabulary.size,
            "bytes": page.stat().st_size,
            "characters_per_second": statistics.median(speeds),
            "slowest": min(speeds),
            "fastest": max(speeds),
        }
    if arguments.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name.replace('_', ' '):24}{value:>12,}" if name != "cell" else f"{value}")


if __name__ == "__main__":
    main()
