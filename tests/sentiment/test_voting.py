"""Who helps votes, and who does not is left out: decided on texts that no member has seen."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from chargen.sentiment.classifier import Classifier
from chargen.sentiment.examples import Examples
from chargen.sentiment.finetune import finetune as fit
from chargen.sentiment.learning import FinetuneRun
from chargen.sentiment.members import members_cost
from chargen.sentiment.regression import Vote, choose_members, fit_factors, log_losses
from chargen.sentiment.splitting import Targets
from chargen.storage import checkpoint

from .making import CHARS, Recorder, save_lm

EVEN = np.log([0.5, 0.5])


def judge(quality: float, seed: int, classes: np.ndarray) -> np.ndarray:
    """Calibrated evidence (N, 2): the log-odds of a normal variable whose mean tells the class."""
    chance = np.random.default_rng(seed)
    seen = chance.normal(quality * (classes - 0.5), 1.0)
    return np.stack([-quality * seen / 2, quality * seen / 2], -1)


def problem(texts: int = 400) -> tuple[Targets, list[str]]:
    return Targets(np.arange(texts) % 2, np.ones(texts, np.float32), 2), [
        str(n) for n in range(texts)
    ]


def decided(texts: int = 400, **qualities: float) -> Vote:
    targets, names = problem(texts)
    evidence = {
        name: judge(quality, seed, targets.classes)
        for seed, (name, quality) in enumerate(qualities.items())
    }
    return choose_members(evidence, targets, names, EVEN)


def test_one_member_is_temperature_scaling() -> None:
    targets, _ = problem(4000)
    for scale in (0.2, 1.0, 5.0):
        (factor,) = fit_factors(scale * judge(2.0, 0, targets.classes)[None], targets, EVEN)
        assert factor == pytest.approx(1 / scale, rel=0.1)


def test_independent_members_are_summed() -> None:
    vote = decided(4000, first=1.5, second=2.0)
    assert vote.factors == pytest.approx({"first": 1.0, "second": 1.0}, rel=0.1)
    assert vote.accuracy > max(member.accuracy for member in vote.members.values())


def test_nobody_counts_negatively() -> None:
    targets, _ = problem()
    good = judge(2.0, 0, targets.classes)
    assert fit_factors(np.stack([good, -good]), targets, EVEN)[1] == 0


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_left_out_by_name(seed: int) -> None:
    targets, names = problem()
    chance = np.random.default_rng(seed + 100)
    evidence = {
        "good": judge(2.0, seed, targets.classes),
        "noise": chance.normal(0, 3, (400, 2)),
        "again": judge(2.0, seed, targets.classes) * 3,  # knows nothing that the first does not
    }
    vote = choose_members(evidence, targets, names, EVEN, seed)
    assert len(vote.kept) == 1
    assert vote.kept[0] in ("good", "again")
    told = vote.sentences()[-1]
    assert told.startswith("left out")
    assert f"noise ({vote.members['noise'].accuracy:.4f} alone)" in told
    assert 0.4 < vote.members["noise"].accuracy < 0.6


def test_of_sets_that_do_as_well_the_cheapest_is_taken() -> None:
    targets, texts = problem(1000)
    known = judge(2.0, 0, targets.classes)
    other = judge(1.0, 1, targets.classes)
    little = known + 0.05 * judge(1.0, 2, targets.classes)
    evidence = {"network": little, "word n-grams": known, "latent features": other}
    plain = choose_members(evidence, targets, texts, EVEN)
    assert plain.kept == ["network", "latent features"]
    # A network is dear; beside it, a regression on n-grams costs nothing.
    cheap = choose_members(evidence, targets, texts, EVEN, cost=members_cost)
    assert cheap.kept == ["word n-grams", "latent features"]
    evidence = {"word n-grams": known, "self-trained words": judge(0.2, 3, targets.classes)}
    assert len(choose_members(evidence, targets, texts, EVEN).kept) == 1
    both = choose_members(evidence, targets, texts, EVEN, cost=members_cost)
    assert both.kept == ["word n-grams", "self-trained words"]
    assert members_cost(["network"]) > members_cost(["word n-grams", "latent features"])


def test_the_whole_is_hardly_below_its_best_member() -> None:
    for seed in range(8):
        chance = random.Random(seed)
        targets, names = problem(chance.choice((20, 60, 200)))
        evidence = {
            str(k): chance.uniform(0.1, 9)
            * judge(chance.choice((0, 0.5, 1, 2)), 100 * seed + k, targets.classes)
            for k in range(3)
        }
        vote = choose_members(evidence, targets, names, EVEN, seed)
        whole = vote.logits.argmax(-1) == targets.classes
        for name, each in evidence.items():
            right = each.argmax(-1) == targets.classes
            lead = right.astype(float) - whole
            assert lead.mean() <= lead.std(ddof=1) / len(lead) ** 0.5 + 1e-9, name


def test_who_says_nothing_gets_no_factor() -> None:
    targets, names = problem(100)
    vote = choose_members(
        {"good": judge(1.0, 0, targets.classes), "mute": np.full((100, 2), 0.1)},
        targets,
        names,
        EVEN,
    )
    assert vote.factors["mute"] == 0
    assert choose_members({"mute": np.zeros((100, 2))}, targets, names, EVEN).accuracy == 0.5


def test_figures_are_of_texts_of_equal_weight() -> None:
    targets, names = problem(90)
    weights = np.where(targets.classes, 1.8, 0.2).astype(np.float32)
    targets = replace(targets, weights=weights)
    vote = choose_members({"a": judge(1.0, 0, targets.classes)}, targets, names, EVEN)
    expected = log_losses(vote.logits, targets.classes).mean()
    assert vote.log_loss == vote.members["a"].log_loss == pytest.approx(expected)
    assert vote.accuracy == (vote.logits.argmax(-1) == targets.classes).mean()


def test_where_all_are_right_nothing_is_infinite() -> None:
    targets, names = problem(30)
    sure = judge(50.0, 0, targets.classes)
    vote = choose_members({"sure": sure}, targets, names, EVEN)
    assert vote.accuracy == 1
    chances = np.exp(-log_losses(vote.logits, targets.classes))
    assert 0.9 < chances.min() <= chances.max() < 0.999


@pytest.mark.parametrize("count", [1, 2, 3])
def test_hardly_a_text(count: int) -> None:
    targets, names = problem(count)
    evidence = {"a": judge(1, 0, targets.classes), "b": judge(1, 1, targets.classes)}
    vote = choose_members(evidence, targets, names, EVEN)
    assert vote.kept
    assert np.isfinite(vote.logits).all()


# ---------------------------------------------------------------- the default, on data of its own

finetune = partial(fit, precision="float32", device="cpu")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model that has read nothing: its states depend on the letters all the same."""
    return save_lm(tmp_path_factory.mktemp("encoder") / "lm", hidden_size=16)


ENDINGS = {
    "it": ("ini", "etti", "ucci"),
    "pl": ("ski", "wicz", "czyk"),
    "en": ("son", "ton", "ley"),
}
SENTENCES = {
    "de": "der die das und ist nicht ein eine ich wir haben auch auf mit sich",
    "en": "the and is not a an i we have also on with of this that",
    "fr": "le la les et est pas un une je nous avons aussi sur avec du",
}


def surnames(count: int, seed: int) -> Examples:
    chance = random.Random(seed)

    def make(label: str) -> str:
        stem = "".join(chance.choice("bdfgklmnprst") + chance.choice("aeiou") for _ in "12")
        return stem + chance.choice(ENDINGS[label if chance.random() < 0.85 else "pl"])

    return labelled(count, list(ENDINGS), make)


def languages(count: int, seed: int) -> Examples:
    chance = random.Random(seed)
    return labelled(
        count, list(SENTENCES), lambda name: " ".join(chance.choices(SENTENCES[name].split(), k=6))
    )


def order(count: int, seed: int) -> Examples:
    """The same words in both classes, and letters too: who bites tells."""
    chance = random.Random(seed)

    def make(label: str) -> str:
        first, second = ("dog", "man") if label == "dog" else ("man", "dog")
        rest = chance.choices(("red", "old", "big", "far", "new", "sad"), k=4)
        return f"{' '.join(rest[:2])} the {first} bites the {second} {' '.join(rest[2:])}"

    return labelled(count, ["dog", "man"], make)


def noise(count: int, seed: int) -> Examples:
    chance = random.Random(seed)
    return labelled(count, ["a", "b"], lambda _: " ".join(chance.choices("abcdefgh", k=12)))


def labelled(count: int, labels: list[str], make: Callable[[str], str]) -> Examples:
    chosen = [labels[number % len(labels)] for number in range(count)]
    return Examples(tuple(map(make, chosen)), tuple(chosen), tuple(range(count)), "made")


def alone(run: FinetuneRun) -> list[Classifier]:
    """Each member by itself."""
    made = run.classifier
    return [Classifier([each], made.labels, prior=made.prior) for each in made.members]


def right(classifier: Classifier, examples: Examples) -> np.ndarray:
    found = classifier.predict(examples.texts)
    return np.array([a == b for a, b in zip(found, examples.labels, strict=True)], float)


@pytest.mark.parametrize(
    ("make", "count", "least"), [(surnames, 120, 0.7), (languages, 30, 0.8), (order, 60, 0.9)]
)
def test_the_default_is_within_an_error_of_its_best_member(
    encoder: Path, make: Callable[[int, int], Examples], count: int, least: float
) -> None:
    train, test = make(count, 1), make(200, 2)
    recorder = Recorder()
    run = finetune(train, encoder, reporter=recorder)
    parts = [right(finetune(train, encoder, ngrams=False).classifier, test)]
    parts += [right(each, test) for each in alone(run)]
    whole = right(run.classifier, test)
    assert whole.mean() > least
    for part in parts:
        lead = part - whole
        assert lead.mean() <= lead.std(ddof=1) / len(lead) ** 0.5 + 1e-9
    assert run.labels_used == count
    assert run.valid["accuracy"] == pytest.approx(whole.mean(), abs=0.15)
    assert any("5-fold cross-validation" in note for note in recorder.notes)


def test_the_network_is_left_out_where_it_does_not_help(encoder: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    run = finetune(order(120, 1), encoder, tmp_path / "order", reporter=recorder)
    told = next(note for note in recorder.notes if note.startswith("left out"))
    assert "network (" in told
    loaded = Classifier.load(tmp_path / "order")
    assert loaded.network is None
    assert not (tmp_path / "order" / "model.safetensors").exists()
    config = checkpoint.load(tmp_path / "order").document("config")
    assert config["members"] == [member.name for member in run.classifier.members]
    assert config["results"]["votes"]["network"]["weight"] == 0
    text = "old the man bites the dog far"
    assert loaded.predict([text]) == ["man"]
    explained = loaded.explain(text, "man")
    np.testing.assert_allclose(explained.trace[-1], loaded.predict_proba([text])[0], atol=1e-5)


def test_labels_that_nothing_tells_get_about_their_shares(encoder: Path) -> None:
    for seed in range(3):
        run = finetune(noise(80, seed), encoder)
        chances = run.classifier.predict_proba(noise(60, seed + 10).texts)
        assert np.abs(chances - 0.5).mean() < 0.1
        uneven = noise(80, seed).select([n for n in range(80) if n % 2 == 0 or n % 8 == 1])
        run = finetune(uneven, encoder, class_weights=False)
        chances = run.classifier.predict_proba(noise(60, seed + 10).texts)
        assert np.abs(chances - [0.8, 0.2]).mean() < 0.1


def test_few_labels_are_probed_and_a_budget_asks_for_more(encoder: Path) -> None:
    quick = {"detectors": 4, "head_size": 4, "batch_size": 8}
    assert finetune(surnames(30, 1), encoder).steps == 0
    assert finetune(surnames(30, 1), encoder, epochs=1, **quick).steps > 0
    assert finetune(surnames(30, 1), encoder, method="finetune", labels=12, **quick).steps > 0


@pytest.mark.parametrize("texts", [("aa", "bb"), ("aa", "ab", "bb"), ("aa", "aa", "bb", "bb")])
def test_labels_that_cannot_be_held_out(encoder: Path, texts: Sequence[str]) -> None:
    recorder = Recorder()
    labels = tuple(text[-1] for text in texts)
    data = Examples(tuple(texts), labels, tuple(range(len(texts))), "few")
    run = finetune(data, encoder, reporter=recorder)
    assert any("all have the same weight" in note for note in recorder.notes)
    assert run.valid == {}
    assert len(run.classifier.members) == 3
    assert run.classifier.score(texts, labels) == 1


@pytest.mark.parametrize("penalty", ["l1", "l2"])
def test_any_seed_will_do(encoder: Path, tmp_path: Path, penalty: str) -> None:
    more = tmp_path / "more.txt"
    more.write_text("\n".join(order(20, 3).texts))
    options = {"seed": 2**63 - 1, "penalty": penalty, "unlabelled": str(more)}
    assert finetune(order(20, 1), encoder, **options).valid["accuracy"] >= 0


def test_a_class_whose_only_text_has_another_label_too(encoder: Path) -> None:
    data = Examples(("aa", "ab", "ac", "aa"), ("a", "a", "a", "b"), (0, 1, 2, 3), "torn")
    run = finetune(data, encoder)
    assert run.classifier.labels == ("a", "b")
    assert run.labels_used == 4


def test_the_characters_here_are_known() -> None:
    for make in (surnames, languages, order, noise):
        assert not CHARS.encode_prompt("".join(make(50, 0).texts), "replace")[1]
