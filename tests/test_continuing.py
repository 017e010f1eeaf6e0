"""Runs that begin with a trained model: `chargen.train(text, start_from=DIR)`."""

from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import chargen
from chargen.errors import ConfigError, CorpusError
from chargen.lm.config import ModelConfig
from chargen.lm.model import create_network
from chargen.text.vocabulary import ByteVocabulary, CharVocabulary, RawVocabulary
from chargen.training import continuing
from chargen.training.continuing import Start, interleave, read_start

from .sentiment.making import Recorder

SMALL: dict[str, Any] = {"batch_size": 8, "window": 32, "precision": "float32", "threads": 1}
KNOWN = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "some", "hens"]
NEW = [*KNOWN[:5], "\u00e9t\u00e9", "z\u00e8bre"]


def words(known: list[str], seed: int, count: int) -> str:
    """A text that is no repetition."""
    return " ".join(random.Random(seed).choices(known, k=count)) + "\n"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows a text, beside that text and a new one."""
    folder = tmp_path_factory.mktemp("old")
    (folder / "old.txt").write_text(words(KNOWN, 0, 4000), "utf-8")
    (folder / "new.txt").write_text(words(NEW, 1, 1500), "utf-8")
    chargen.train(folder / "old.txt", folder / "old", steps=150, hidden_size=32, **SMALL)
    return folder


def continued(old: Path, out: Path, **options: Any) -> chargen.LanguageModel:
    settings = {"steps": 30, **SMALL, **options}
    chargen.train(old / "new.txt", out, start_from=old / "old", **settings)
    return chargen.load(out)


def test_it_begins_better_than_a_new_model_and_knows_new_letters(old: Path, tmp_path: Path) -> None:
    lm = continued(old, tmp_path / "more")
    chargen.train(old / "new.txt", tmp_path / "new", steps=30, hidden_size=32, **SMALL)
    test = words(NEW, 2, 300)
    assert lm.score(test).bits_per_char < chargen.load(tmp_path / "new").score(test).bits_per_char
    assert lm.score("\u00e9t\u00e9 lazy").unknown_chars == 0
    assert lm.model.hidden_size == 32
    saved = json.loads((tmp_path / "more" / "config.json").read_text("utf-8"))
    assert saved["corpus"]["start_from"] == str(old / "old")


def test_replay_keeps_what_the_model_knew(old: Path, tmp_path: Path) -> None:
    test = words(KNOWN, 3, 300)
    before = chargen.load(old / "old").score(test).bits_per_char
    without = continued(old, tmp_path / "a", steps=60).score(test).bits_per_char
    replay = {"replay": old / "old.txt", "replay_share": 0.5}
    with_it = continued(old, tmp_path / "b", steps=60, **replay).score(test).bits_per_char
    assert with_it - before < 0.5 * (without - before)


@pytest.mark.parametrize(("tied", "ensemble"), [(False, 1), (True, 1), (True, 2)])
@pytest.mark.parametrize("level", ["char", "byte", "raw", "labels"])
def test_a_grown_model_predicts_what_it_did(level: str, tied: bool, ensemble: int) -> None:
    if level == "char":
        small, large = CharVocabulary("ace"), CharVocabulary("abcde\u732b", documents=True)
        places = [0, 2, 4, 6]
    elif level == "raw":
        small, large = RawVocabulary(), RawVocabulary(True)  # type: ignore[assignment]
        places = list(range(256))
    elif level == "labels":
        small = CharVocabulary("ace", True, labels=["1", "a"])
        large = CharVocabulary("ace", True, labels=["0", "1", "a"])
        places = [0, 1, 2, 3, 4, 6, 7]
    else:
        small, large = ByteVocabulary(), ByteVocabulary(documents=True)  # type: ignore[assignment]
        places = list(range(256))
    sizes = {"hidden_size": 12, "num_layers": 2, "embedding_size": 5}
    kind = {"tied": tied, "ensemble": ensemble}
    rates = {"dropout": 0.0, "embedding_dropout": 0.0, "weight_dropout": 0.0}
    torch.manual_seed(1)
    model = create_network(ModelConfig(vocabulary_size=small.size, **sizes, **rates, **kind))
    larger = create_network(ModelConfig(vocabulary_size=large.size, **sizes, **rates, **kind))
    start = Start("model", chargen.LanguageModel(model, small))
    larger.load_state_dict(start.weights(large))
    ids = torch.tensor([[1], [3], [2], [0], [1]])
    with torch.no_grad():
        expected = model(ids, model.initial_state(1))[0]
        found = larger(torch.tensor(places)[ids], larger.initial_state(1))[0]
    torch.testing.assert_close(found[..., places], expected)
    new = [place for place in range(large.size) if place not in places]
    assert (found[..., new] < found[..., places].amax(-1, keepdim=True)).all()


def test_new_text_is_normalized_as_the_old_one_was(tmp_path: Path) -> None:
    text = words(NEW, 0, 300)
    for form in ("NFC", "NFD"):
        (tmp_path / f"{form}.txt").write_text(unicodedata.normalize(form, text), "utf-8")
    options: dict[str, Any] = {"steps": 2, **SMALL}
    old, more = tmp_path / "old", tmp_path / "more"
    chargen.train(tmp_path / "NFC.txt", old, normalize="NFC", hidden_size=16, **options)
    chargen.train(
        tmp_path / "NFD.txt", more, start_from=old, replay=tmp_path / "NFD.txt", **options
    )
    assert chargen.load(more).vocabulary == chargen.load(old).vocabulary


def labelled(path: Path, who: list[str], known: list[str]) -> Path:
    rows = [f"{who[i % len(who)]},{words(known, i, 9)}" for i in range(200)]
    path.write_text("who,text\n" + "".join(rows), "utf-8")
    return path


@pytest.mark.parametrize("level", ["char", "byte"])
def test_labels_grow_too(tmp_path: Path, level: str) -> None:
    first = labelled(tmp_path / "first.csv", ["bob", "dan"], KNOWN)
    more = labelled(tmp_path / "more.csv", ["ann", "bob"], NEW)
    plain = tmp_path / "plain.txt"
    plain.write_text(words(NEW, 0, 300), "utf-8")
    options: dict[str, Any] = {"steps": 3, "level": level, **SMALL}
    chargen.train(first, tmp_path / "a", label_column="who", hidden_size=16, **options)
    # The column of training is read where the table has it.
    replay = {"replay": first, "replay_share": 0.2}
    chargen.train(more, tmp_path / "b", start_from=tmp_path / "a", **replay, **options)
    whole = {"valid_fraction": 0.0, **options}  # it is one document
    chargen.train(plain, tmp_path / "c", start_from=tmp_path / "b", **whole)
    for name in ("b", "c"):
        lm = chargen.load(tmp_path / name)
        assert lm.vocabulary.labels == ("ann", "bob", "dan")
        assert lm.score("\u00e9t\u00e9 lazy", label="dan").unknown_chars == 0
    assert chargen.resume(tmp_path / "b", steps=5).steps == 5
    # A model without labels learns some.
    chargen.train(plain, tmp_path / "d", hidden_size=16, **options)
    chargen.train(more, tmp_path / "e", start_from=tmp_path / "d", label_column="who", **options)
    assert chargen.load(tmp_path / "e").vocabulary.labels == ("ann", "bob")


@pytest.mark.parametrize(
    ("new", "documents"), [("unlabelled.csv", None), ("plain", None), ("plain", "lines")]
)
def test_old_text_keeps_its_documents_and_labels(
    tmp_path: Path, new: str, documents: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = labelled(tmp_path / "first.csv", ["bob", "dan"], KNOWN)
    (tmp_path / "unlabelled.csv").write_text(
        first.read_text().replace("who,", "number,").replace("fox", "cat")
    )
    (tmp_path / "plain").mkdir()
    for name in "ab":
        (tmp_path / "plain" / f"{name}.txt").write_text(words(NEW, ord(name), 300), "utf-8")
    options: dict[str, Any] = {"steps": 2, **SMALL}
    chargen.train(first, tmp_path / "a", label_column="who", hidden_size=16, **options)
    mixed: list[Any] = []
    original = continuing.with_replay

    def with_replay(text: Any, old: Any, share: float) -> Any:
        mixed.append(old)
        return original(text, old, share)

    monkeypatch.setattr(continuing, "with_replay", with_replay)
    replay: dict[str, Any] = {"replay": first, "replay_share": 0.2, "documents": documents}
    chargen.train(tmp_path / new, tmp_path / "b", start_from=tmp_path / "a", **replay, **options)
    vocabulary, rows = mixed[0].vocabulary, first.read_text().count("\n") - 1
    assert vocabulary.labels == ("bob", "dan")
    assert (mixed[0].train == vocabulary.separator_id).sum() == rows
    assert (mixed[0].train >= vocabulary.first_label_id).sum() == rows
    assert chargen.resume(tmp_path / "b", steps=4).steps == 4


def test_texts_from_python_go_with_old_text_that_is_no_table(old: Path, tmp_path: Path) -> None:
    texts = [words(NEW, seed, 100) for seed in range(4)]
    begin: dict[str, Any] = {"start_from": old / "old", "replay": old / "old.txt"}
    chargen.train(texts=texts, out=tmp_path / "m", steps=2, **begin, **SMALL)
    assert chargen.load(tmp_path / "m").trained_reading["documents"] == "rows"
    assert chargen.resume(tmp_path / "m", steps=3).steps == 3


def test_raw_bytes_go_on_as_raw_bytes(old: Path, tmp_path: Path) -> None:
    (tmp_path / "tune.mid").write_bytes(bytes(range(256)) * 20)
    options: dict[str, Any] = {"steps": 2, **SMALL}
    chargen.train(tmp_path / "tune.mid", tmp_path / "a", raw_bytes=True, hidden_size=16, **options)
    chargen.train(tmp_path / "tune.mid", tmp_path / "b", start_from=tmp_path / "a", **options)
    assert chargen.load(tmp_path / "b").raw
    with pytest.raises(ConfigError, match="--raw-bytes: the model was trained on text"):
        chargen.train(
            tmp_path / "tune.mid", tmp_path / "c", start_from=old / "old", raw_bytes=True, **options
        )


def test_rare_new_characters_stay_unknown(old: Path, tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text(words(NEW, 3, 300) + "\u732b", "utf-8")
    options: dict[str, Any] = {"steps": 2, "min_count": 2, **SMALL}
    chargen.train(tmp_path / "new.txt", tmp_path / "m", start_from=old / "old", **options)
    lm = chargen.load(tmp_path / "m")
    assert (
        lm.score("\u00e9q\u732b", as_is=True).unknown_chars == 1
    )  # q is old, and not in the new text


def test_the_recipe_knows_that_the_model_is_not_new(old: Path, tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text(words(NEW, 1, 200), "utf-8")
    chargen.train(tmp_path / "new.txt", tmp_path / "a", start_from=old / "old", **SMALL)
    chargen.train(tmp_path / "new.txt", tmp_path / "b", hidden_size=32, epochs=3, **SMALL)
    more, new = (
        json.loads((tmp_path / name / "config.json").read_text())["train"] for name in ("a", "b")
    )
    assert more["epochs"] == 20  # a short text
    assert more["learning_rate"] == pytest.approx(new["learning_rate"] / 3)


def test_a_long_text_is_read_less_often() -> None:
    start = read_start("checkpoints/reviews", None)
    asked = chargen.TrainConfig()
    found = [start.train_config(asked, count).epochs for count in (10**4, 50_000, 10**6)]
    assert found == [20, 6, 3]
    assert start.train_config(chargen.TrainConfig(minutes=1), 10**6).epochs is None


def test_a_run_goes_on_unless_its_text_was_edited(old: Path, tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text(words(NEW, 5, 500), "utf-8")
    options: dict[str, Any] = {"steps": 4, "replay": old / "old.txt", **SMALL}
    chargen.train(tmp_path / "new.txt", tmp_path / "m", start_from=old / "old", **options)
    assert chargen.resume(tmp_path / "m", steps=8).steps == 8
    (tmp_path / "new.txt").write_text(words(NEW, 6, 500), "utf-8")
    with pytest.raises(CorpusError, match="has changed"):
        chargen.resume(tmp_path / "m", steps=12)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_run_goes_on_with_the_old_text_that_it_began_with(tmp_path: Path, direction: Any) -> None:
    new, kept, out = (tmp_path / name for name in ("new.txt", "kept.txt", "out"))
    new.write_text(words(NEW, 0, 300), "utf-8")
    kept.write_text("the old fox", "utf-8")
    options: dict[str, Any] = {"hidden_size": 16, "direction": direction, **SMALL}
    chargen.train(new, tmp_path / "old", steps=1, **options)
    begin: dict[str, Any] = {"start_from": tmp_path / "old", "replay": kept, "replay_share": 0.5}
    chargen.train(new, out, steps=2, **begin, **SMALL)
    kept.write_text("the old dog", "utf-8")
    with pytest.raises(CorpusError, match=r"kept.txt\) has changed since"):
        chargen.resume(out, steps=4)
    kept.unlink()  # its encoding is in the cache
    assert chargen.resume(out, steps=4).steps == 4


@pytest.mark.parametrize("level", ["byte", "char"])
def test_a_run_whose_vocabulary_did_not_grow_goes_on(tmp_path: Path, level: Any) -> None:
    (tmp_path / "a.txt").write_text("abba " * 200, "utf-8")
    chargen.train(tmp_path / "a.txt", tmp_path / "a", steps=1, level=level, **SMALL)
    chargen.train(tmp_path / "a.txt", tmp_path / "b", start_from=tmp_path / "a", steps=1, **SMALL)
    assert chargen.resume(tmp_path / "b", steps=2).steps == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"hidden_size": 64}, "--hidden-size is fixed by the model .32.: leave it out with --from"),
        ({"cell": "gru"}, "--cell is fixed by the model .lstm"),
        ({"direction": "backward"}, "--direction is fixed by the model"),
        ({"level": "byte"}, "--level is fixed by the model .char"),
        ({"start_from": "others", "cell": "lstm"}, "--cell is fixed by the model .gru"),
        ({"start_from": "others", "ensemble": 1}, "--ensemble is fixed by the model .2"),
        ({"start_from": "others", "tied": False}, "--tied is fixed by the model .True"),
        ({"start_from": "others", "level": "char"}, "--level is fixed by the model .byte"),
        ({"replay": "-"}, "--replay must be a file"),
        ({"replay": "x", "replay_share": 1.0}, "--replay-share must be below 1, got 1.0"),
        ({"replay": "x", "replay_share": "0.5"}, "--replay-share must be a number, got '0.5'"),
        ({"start_from": None, "replay": "x"}, "give --from DIR too"),
        ({"replay_share": 0.2}, "--replay-share needs --replay"),
    ],
)
def test_what_cannot_be_is_refused(
    old: Path, tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    given = {"start_from": old / "old", "steps": 2, **options}
    if given["start_from"] == "others":
        given["start_from"] = tmp_path / "others"
        sizes = {"cell": "gru", "ensemble": 2, "tied": True, "level": "byte"}
        chargen.train(old / "new.txt", given["start_from"], steps=1, **{**SMALL, **sizes})
    with pytest.raises(ConfigError, match=told):
        chargen.train(old / "new.txt", tmp_path / "m", **given)
    assert not (tmp_path / "m").exists()


def test_a_classifier_is_no_beginning() -> None:
    with pytest.raises(chargen.CheckpointError, match="classifier"):
        read_start("checkpoints/sentiment", None)


@pytest.mark.parametrize(
    ("share", "documents", "told"),
    [
        (0.1, None, []),
        (0.9, None, ["old text is 75.0% of what is read, not 90.0%: there is little of it"]),
        (
            0.1,
            "files",
            ["old text is 75.0% of what is read, not 10.0%: its documents are read whole"],
        ),
    ],
)
def test_another_share_of_old_text_is_told(
    tmp_path: Path, share: float, documents: str | None, told: list[str]
) -> None:
    new, kept = tmp_path / "new.txt", tmp_path / "kept.txt"
    new.write_text("abba " * 200, "utf-8")
    kept.write_text("baab " * 600, "utf-8")
    options: dict[str, Any] = {"steps": 1, "valid_fraction": 0.0, "documents": documents, **SMALL}
    chargen.train(new, tmp_path / "old", hidden_size=8, **options)
    recorder = Recorder()
    replay: dict[str, Any] = {"replay": kept, "replay_share": np.float32(share)}
    chargen.train(
        new, tmp_path / "m", start_from=tmp_path / "old", reporter=recorder, **replay, **options
    )
    assert [note for note in recorder.notes if "of what is read" in note] == told


@given(
    st.integers(1, 30_000),
    st.integers(1, 30_000),
    st.floats(0.01, 0.9),
    st.sampled_from([None, 1]),
    st.integers(1, 500),
)
def test_all_of_the_new_text_stays_in_its_order(
    new_length: int, old_length: int, share: float, separator: int | None, every: int
) -> None:
    new = np.arange(new_length) * 2 + 2
    old_text = np.arange(old_length) * 2 + 3
    if separator is not None:
        new[every - 1 :: every] = old_text[every - 1 :: every] = separator
    found = interleave(new, old_text, share, separator)
    from_new = found[(found % 2 == 0)]
    np.testing.assert_array_equal(from_new, new[new % 2 == 0])
    if separator is None:
        count = len(found) - new_length
        wanted = new_length * share / (1 - share)
        pieces = max(1, new_length // 4096)
        assert count <= wanted + pieces
        assert count >= min(wanted - pieces, old_length)
