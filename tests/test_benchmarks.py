"""The benchmarks run at a tiny size and print what their docstrings say; no test looks at times."""

from __future__ import annotations

import csv
import json
import math
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import chargen
from tests.scripts import ROOT, run_script


def benchmark(name: str, *arguments: str) -> dict[str, Any]:
    """The object that a benchmark prints with --json."""
    done = run_script(f"benchmarks/{name}", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def alone(name: str, *arguments: str) -> dict[str, Any]:
    """The same of one that looks at its own process."""
    found = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / name), "--json", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    printed: dict[str, Any] = json.loads(found.stdout)
    return printed


def test_training_prints_rates_shares_and_memory() -> None:
    sizes = ("--hidden-size", "16", "--num-layers", "2", "--window", "8", "--batch-sizes", "2", "4")
    quick = ("--repeats", "2", "--seconds", "0.01", "--threads", "1", "--precision", "float32")
    found = benchmark("training.py", *sizes, "--product-sizes", "128", "256", *quick, "--profile")
    assert found["precision"] == "float32"
    assert found["threads"] == 1
    assert set(found["peak_gflops"]) == {"float32", "bfloat16"}
    assert [row["batch_size"] for row in found["batches"]] == [2, 4]
    for row in found["batches"]:
        for name in ("characters_per_second", "gflops", "milliseconds_per_step"):
            assert row[name]["median"] > 0
            assert row[name]["spread"] >= 0
        assert 0 < row["share_of_product_peak"]["median"] < 1
        # The states of 16 units that backward needs are more than this, for each character.
        assert row["bytes_per_character"] > 16 * 4
    best = next(r for r in found["batches"] if r["batch_size"] == found["best_batch_size"])
    for name in ("share_of_product_peak", "share_of_bare_step"):
        assert found[name] == best[name]["median"] > 0
    for parts in found["profile"].values():
        assert {"embedding and LSTM forward", "backward", "clipping", "Muon"} < set(parts)
        assert sum(part["share"] for part in parts.values()) == pytest.approx(1)
        assert all(part["milliseconds"] > 0 for part in parts.values())


@pytest.mark.slow
def test_cost_has_a_row_for_each_corpus_and_size(tmp_path: Path) -> None:
    corpora = ("--megabytes", "0.02", "0.05", "--folder", str(tmp_path))
    sizes = ("--hidden-sizes", "8", "--num-layers", "1", "2", "--batch-size", "2", "--window", "8")
    quick = ("--steps", "20", "--threads", "1", "--precision", "float32")
    found = alone("cost.py", *corpora, *sizes, *quick)
    cases = [(r["megabytes"], r["hidden_size"], r["num_layers"]) for r in found["cases"]]
    assert cases == [(0.02, 8, 1), (0.05, 8, 1), (0.02, 8, 2)]
    for row in found["cases"]:
        assert row["seconds_to_first_step"] > 0
        assert row["characters_per_second"] > 0
        assert row["peak_bytes"] > 10_000_000
    one, _, two = found["cases"]
    assert two["parameters"] > one["parameters"]
    assert not list(tmp_path.iterdir())


def test_sampling_prints_speeds_and_ratios() -> None:
    sizes = ("--hidden-size", "16", "--characters", "40", "--streams", "3", "--prompt", "200")
    found = benchmark("sampling.py", *sizes, "--repeats", "2", "--threads", "1")
    speeds = found["characters_per_second"]
    assert {"ours", "decoder", "stepping", "bound", "batch", "prompt"} < set(speeds)
    assert all(speed > 0 for speed in speeds.values())
    for name in ("speedup_over_stepping", "share_of_bandwidth_bound", "batch_over_one_stream"):
        assert found[name] > 0
    assert found["prompt_characters"] == 200
    assert found["streams"] == 3


def test_scoring_has_a_row_for_each_way(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("a small text of few words. " * 60)
    sizes = ("--hidden-size", "16", "--characters", "1500", "--text", str(text))
    found = benchmark("scoring.py", *sizes, "--repeats", "1", "--threads", "1")
    exact, *others = found["rows"]
    assert (exact["streams"], exact["precision"], exact["bits_from_exact"]) == (1, "float32", 0)
    assert len({(row["streams"], row["precision"]) for row in found["rows"]}) == len(others) + 1
    assert all(row["characters_per_second"] > 0 for row in found["rows"])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_soak_tells_how_memory_went() -> None:
    sleep = "import time; kept = bytearray(10**7); time.sleep(0.8)"
    found = alone("soak.py", "--", sys.executable, "-c", sleep)
    assert found["exit_code"] == 0
    assert found["largest_megabytes"] >= found["end_megabytes"] > 10
    assert found["end_over_start"] > 0


@pytest.mark.skipif(os.name != "posix", reason="needs fork and signals")
@pytest.mark.slow
def test_runs_that_are_killed_lose_nothing() -> None:
    found = alone("kills.py", "--kills", "5", "--seed", "3")
    assert found["losses"] == []
    assert found["kills"] == 5
    assert found["largest_loss_of_steps"] <= found["steps_between_checkpoints"]


def reviews(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Labels and texts that a single word tells apart."""
    draw = random.Random(seed)
    found = []
    for number in range(count):
        word = ("good", "bad")[number % 2]
        words = [draw.choice(("film", "plot", "the", "a", "was", word)) for _ in range(20)]
        found.append((word, f"{' '.join(words)} {word} {number}."))
    return found


def labelled(path: Path, rows: list[tuple[str, str]]) -> str:
    """A table of reviews; its name."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("label", "text"), *rows])
    return str(path)


def test_reading_learns_from_the_first_reviews_and_judges_by_the_last(tmp_path: Path) -> None:
    first, last = reviews(40), reviews(30, seed=1)
    # The last ones are labelled the wrong way round, which shows if they are learnt from.
    turned = [({"good": "bad", "bad": "good"}[label], f"last {text}") for label, text in last]
    train = labelled(tmp_path / "train.csv", [*first, *first, *turned])
    sizes = ("--pool", "40", "--test", "30", "--labels", "10", "20", "--draws", "2")
    (tmp_path / "text.txt").write_text(" ".join(text for _, text in reviews(80, seed=2)))
    small = {"hidden_size": 32, "batch_size": 4, "window": 32, "precision": "float32"}
    run = chargen.train(tmp_path / "text.txt", tmp_path / "model", steps=60, **small)
    model, out = str(run.directory), tmp_path / "table.md"
    options = ("--train", train, *sizes, "--text", train, "--precision", "float32")
    found = benchmark("reading.py", model, model, *options, "--out", str(out))
    one, other = found["rows"]
    for row in (one, other):
        assert row.pop("reading_seconds") > 0
        assert row.pop("probe_seconds") > 0
    assert one == other
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert one["valid_bits"] == config["results"]["valid_bits_per_char"]
    assert one["text_bits"] > one["valid_bits"]
    assert [row["labels"] for row in one["probe"]] == [10, 20]
    for row in one["probe"]:
        assert len(row["accuracies"]) == 2
        assert row["spread"] == max(row["accuracies"]) - min(row["accuracies"])
        assert row["accuracy"] < 0.3
    assert len(out.read_text(encoding="utf-8").splitlines()) == 4


def test_labels_are_heard_by_a_classifier(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    table = labelled(tmp_path / "train.csv", reviews(60))
    sizes = ("--samples", "3", "--length", "20", "--steps", "3", "--hidden-size", "8")
    found = benchmark("labels.py", table, *sizes, "--threads", "1", "--precision", "float32")
    assert found["chance"] == 0.5
    assert [(row["label"], row["texts"]) for row in found["labels"]] == [("bad", 3), ("good", 3)]
    assert found["share"] == pytest.approx(sum(row["share"] for row in found["labels"]) / 2)
    assert found["valid_bits"] > 1


def test_quality_has_the_figures_of_each_protocol(tmp_path: Path) -> None:
    text = "the dog and the fox sleep in the sun, and the hen does not.\n" * 60
    (tmp_path / "text.txt").write_text(text)
    options = ("--epochs", "2", "--dynamic", "--window", "50", "--out", str(tmp_path / "out"))
    (row,) = benchmark("quality.py", str(tmp_path / "text.txt"), *options)
    assert row["bits_per_char"] == pytest.approx(row["nats_per_char"] / math.log(2))
    assert row["counted_nats_per_char"] < row["nats_per_char"]
    assert row["dynamic_nats_per_char"] != row["nats_per_char"]
    assert 1 < row["nats_in_windows"] < math.log(27) + 0.5
    assert row["processor_seconds"] > 0
    assert row["networks"] == 1


def test_count_model_tries_each_order(tmp_path: Path) -> None:
    text = "the dog and the fox sleep in the sun, and the hen does not.\n" * 40
    (tmp_path / "text.txt").write_text(text)
    sizes = {"hidden_size": 12, "embedding_size": 4, "batch_size": 2, "window": 16}
    chargen.train(texts=[text], out=tmp_path / "lm", steps=20, precision="float32", **sizes)
    file = str(tmp_path / "text.txt")
    options = ("--train", file, "--text", file, "--orders", "2", "6", "--dynamic")
    alone, few, many = benchmark("count_model.py", str(tmp_path / "lm"), *options)["rows"]
    assert (alone["order"], alone["weight"], few["order"], many["order"]) == (0, 0, 2, 6)
    # Counts of this very text know it far better than twenty steps do.
    assert alone["bits"] > 3
    assert few["bits"] < 2
    assert many["bits"] < 0.3
    assert many["weight"] > 0.5
    assert many["dynamic_bits"] < 0.3


def test_ensemble_compares_the_means(tmp_path: Path) -> None:
    text = "the dog and the fox sleep in the sun, and the hen does not.\n" * 40
    (tmp_path / "text.txt").write_text(text)
    sizes = {"hidden_size": 12, "embedding_size": 4, "batch_size": 2, "window": 16}
    for seed in (0, 1):
        out = tmp_path / f"member-{seed}"
        chargen.train(texts=[text], out=out, steps=20, seed=seed, precision="float32", **sizes)
    members = [str(tmp_path / f"member-{seed}") for seed in (0, 1)]
    first, both = benchmark("ensemble.py", *members, "--text", str(tmp_path / "text.txt"))["rows"]
    alone = chargen.load(members[0]).score(text, as_is=True).nats_per_char
    for name in ("alone", "mean of logits", "mean of probabilities"):
        assert first[name] == pytest.approx(alone, abs=1e-5)
        assert 0 < both[name] < 10
    # By the concavity of the logarithm neither is worse than the mean of both alone.
    assert both["mean of logits"] <= (first["alone"] + both["alone"]) / 2
    assert both["mean of probabilities"] <= (first["alone"] + both["alone"]) / 2


@pytest.mark.parametrize("vectors", ["characters", "table"])
def test_word_reader_prints_words_bits_and_probe(vectors: str, tmp_path: Path) -> None:
    train = labelled(tmp_path / "train.csv", reviews(40))
    corpus = tmp_path / "reviews.jsonl"
    lines = [json.dumps({"text": text}) for _, text in reviews(60, seed=1)]
    corpus.write_text("\n".join(lines), encoding="utf-8")
    probed = ("--pool", "20", "--test", "20", "--labels", "10", "--draws", "1")
    sizes = ("--hidden-size", "8", "--word-size", "4", "--words", "6", "--negatives", "5")
    quick = ("--batch-size", "2", "--window", "5", "--minutes", "0.005", "--precision", "float32")
    options = ("--train", train, "--vectors", vectors, *probed, *sizes, *quick)
    found = benchmark("word_reader.py", str(corpus), *options, "--valid-fraction", "0.1")
    assert found["vectors"] == vectors
    assert found["words_read"] > 0
    assert found["words_read"] % 10 == 0
    assert found["bits_per_char"] > 0
    assert 0 < found["counted"] < 1
    assert [row["labels"] for row in found["probe"]] == [10]


def test_the_word_readers_loss_and_bits_are_those_of_the_whole_softmax(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import word_reader

    words = word_reader.Words(text for _, text in reviews(40))
    held = ["The film was Good, unheard of.", "bad", "a"]
    for text in held:
        words.encode(text)
    frequent = 9
    torch.manual_seed(0)
    vectors = word_reader.SpelledVectors(4, words.spelling())
    model = word_reader.WordLM(vectors, 4, 8, words.counts[:frequent], 2000)
    model.output.weight.data *= 5

    nats, counted, characters = 0.0, 0, 0
    for text in held:
        ids = torch.from_numpy(words.encode(text)).long()
        read = torch.cat([torch.tensor([words.start_id]), ids])[:, None]
        outputs, _ = model.features(read, model.initial_state(1))
        targets = torch.cat([ids, torch.tensor([words.start_id])])
        known = targets < frequent
        loss = torch.nn.functional.cross_entropy(model.output(outputs[known, 0]), targets[known])
        torch.testing.assert_close(
            model.sampled_loss(outputs[:, 0], targets), loss, rtol=0.01, atol=0.01
        )
        nats += float(loss.detach()) * int(known.sum())
        counted += int(known.sum())
        characters += len(text) + 1
    characters -= len(",") + len("unheard") + len("of")
    bits, share = word_reader.held_out(model.eval(), held, words, "float32")
    assert bits == pytest.approx(nats / math.log(2) / characters, rel=1e-5)
    assert share == counted / (9 + 2 + 2)


def scaling(*arguments: object) -> str:
    done = run_script("benchmarks/scaling.py", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_scaling_trains_each_configuration_for_its_steps(tmp_path: Path) -> None:
    reviews, runs = tmp_path / "reviews.jsonl", tmp_path / "runs.jsonl"
    line = json.dumps({"text": "the quick brown fox jumps over the lazy dog " * 20})
    reviews.write_text(f"{line}\n" * 200)
    quick = "hidden_size=8,steps=2,batch_size=4,window=16,precision=float32"
    scaling("run", reviews, runs, quick, f"{quick},num_layers=2,schedule=constant-cooldown")
    one, two = map(json.loads, runs.read_text().splitlines())
    for row in (one, two):
        assert row["steps"] == 2
        assert row["characters"] == 2 * 4 * 16
        assert row["bits"] > 1
    assert two["weights"] > one["weights"]
    assert two["options"]["num_layers"] == 2


def test_scaling_fits_the_law_that_runs_follow(tmp_path: Path) -> None:
    recipe = {"batch_size": 64, "window": 128, "weight_decay": 0.01, "num_layers": 1}
    rows = [
        {
            "options": {**recipe, "hidden_size": size},
            "weights": weights * 1e6,
            "processor_minutes": read / 10,
            "characters": read * 1e6,
            "bits": 1.2 + 0.3 / weights**0.34 + 0.8 / read**0.4,
        }
        for size, weights in ((512, 1.2), (768, 2.6), (1024, 4.6))
        for read in (4, 16, 64)
    ]
    (tmp_path / "runs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    printed = scaling("fit", tmp_path / "runs.jsonl", "--hours", "10")
    assert float(printed.split("largest miss ")[1].split()[0]) < 1e-3
    last = printed.splitlines()[-1].split("|")
    assert float(last[-2]) == pytest.approx(1.2 + 0.3 / 4.6**0.34 + 0.8 / 6000**0.4, abs=2e-3)


def test_the_page_prints_characters_a_second(browser: Any) -> None:
    browser.new_page().close()  # skipped where there is none; the benchmark starts its own
    sizes = ("--hidden-size", "16", "--characters", "30", "--repeats", "2")
    with ThreadPoolExecutor(1) as threads:  # each has one Playwright
        found = threads.submit(benchmark, "page.py", *sizes).result()
    assert found["hidden_size"] == 16
    assert 0 < found["slowest"] <= found["characters_per_second"] <= found["fastest"]


def test_going_on_is_set_beside_training_anew(tmp_path: Path) -> None:
    for name, seed in (("old", 1), ("new", 2)):
        draw = random.Random(seed)
        (tmp_path / name).write_text("".join(draw.choices("abcd \n", k=6000)))
    quick = ("--steps", "3", "--epochs", "1", "--kilobytes", "1", "2", "--held-back", "300")
    texts = (str(tmp_path / "old"), str(tmp_path / "new"))
    found = benchmark(
        "continue_training.py", *texts, *quick, "--threads", "1", "--precision", "float32"
    )
    assert [row["characters"] for row in found["rows"]] == [1000] * 4 + [2000] * 4
    assert all(0 < row["new_bits"] < 9 and 0 < row["old_bits"] < 9 for row in found["rows"])
