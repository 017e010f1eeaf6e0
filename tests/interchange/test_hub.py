"""Checkpoints to a hub and back, by a fake of it on a loopback address."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import chargen
from chargen.cli.main import main
from chargen.errors import CheckpointError, ConfigError, MissingExtraError
from chargen.interchange import hub
from chargen.sampling.steering import fit_steering, store_steering
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.config import ExamplesConfig
from chargen.sentiment.examples import read_examples
from chargen.storage import checkpoint
from tests.sentiment.making import QUICK, count_ngrams, separable, write_csv

from .fake_hub import TOKEN, Hub
from .fake_hub import hub as fake_hub

pytest.importorskip("huggingface_hub", reason="needs chargen[hub]")

SMALL = {"hidden_size": 16, "batch_size": 4, "window": 16, "precision": "float32"}


@pytest.fixture(scope="module")
def fox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    (folder / "fox.txt").write_text("the quick brown fox jumps over the lazy dog.\n" * 50)
    chargen.train(folder / "fox.txt", folder / "fox", steps=5, **SMALL)
    return folder / "fox"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with fake_hub() as found:
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.chdir(tmp_path)
        yield found


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_there_and_back(server: Hub, fox: Path) -> None:
    pushed = hub.push(fox, "anna/fox")
    sent = server.repositories["anna/fox"]
    assert sent.private
    assert set(sent.commits[-1]) == set(pushed.files) >= {"manifest.json", "README.md"}
    assert not any(name.startswith("training/") for name in pushed.files)
    assert str(fox.parent).encode() not in b"".join(sent.commits[-1].values())
    assert b"library_name: chargen\n" in sent.commits[-1]["README.md"].partition(b"---\n\n")[0]
    where = hub.pull("anna/fox")
    assert where == Path("checkpoints/fox")
    assert _files(where) == set(pushed.files)
    lm = chargen.load(where)
    assert lm.generate(max_chars=50, seed=1) == chargen.load(fox).generate(max_chars=50, seed=1)
    with pytest.raises(ConfigError, match="exists"):
        hub.pull("anna/fox")


def test_folders_of_a_classifiers_texts_stay_at_home(
    server: Hub, fox: Path, tmp_path: Path
) -> None:
    train = write_csv(tmp_path / "train.csv", separable(20))
    valid = write_csv(tmp_path / "valid.csv", separable(10, seed=1))
    options = {"valid": str(valid), "unlabelled": str(valid), **QUICK}
    chargen.finetune(train, fox, tmp_path / "mood", **options)
    hub.push(tmp_path / "mood", "anna/mood")
    sent = b"".join(server.repositories["anna/mood"].commits[-1].values())
    assert b"train.csv" in sent
    for folder in (tmp_path, fox.parent):
        assert str(folder).encode() not in sent


def test_folders_stay_at_home_that_a_sentence_mentions(
    server: Hub, fox: Path, tmp_path: Path
) -> None:
    home = tmp_path / "my texts of home"
    home.mkdir()
    (home / "hen.txt").write_text("the hen is in the sun and not in the den.\n" * 30)
    more = {"start_from": fox, "replay": fox.parent / "fox.txt", **SMALL, "hidden_size": None}
    chargen.train(home / "hen.txt", home / "hen", steps=2, **more)
    train = write_csv(home / "train.csv", separable(8))
    examples = read_examples(train, ExamplesConfig())
    lm = chargen.load(home / "hen")
    store_steering(home / "hen", fit_steering(lm, examples.texts, examples.labels, examples.source))
    hub.push(home / "hen", "anna/hen")
    files = server.repositories["anna/hen"].commits[-1]
    for folder in (home, fox.parent):
        assert str(folder).encode() not in b"".join(files.values())
    assert b"sizes and weights are those of fox" in files["config.json"]
    assert b"over 8 texts of train.csv" in files["steering.json"]
    assert b"/fox.txt" in b"".join(_sent_with_training(server, home / "hen").values())


def _sent_with_training(server: Hub, directory: Path) -> dict[str, bytes]:
    """What is sent of a run that shall go on elsewhere: resuming looks for its texts."""
    hub.push(directory, "anna/all", training=True)
    return server.repositories["anna/all"].commits[-1]


def test_no_folders_are_sent_for_a_state_that_is_not_there(
    server: Hub, fox: Path, tmp_path: Path
) -> None:
    chargen.load(fox).save(tmp_path / "copy")
    with pytest.raises(ConfigError, match="copy has no training state: leave --training out"):
        hub.push(tmp_path / "copy", "anna/copy", training=True)
    assert server.asked == []


def _card(sent: bytes) -> Any:
    from huggingface_hub import ModelCard

    return ModelCard(sent.decode())


def test_the_card_says_what_is_known(server: Hub, fox: Path, tmp_path: Path) -> None:
    bits = checkpoint.load(fox).document("config")["results"]["valid_bits_per_char"]
    hub.push(fox, "anna/fox", language="en")
    card = _card(server.repositories["anna/fox"].commits[-1]["README.md"]).data
    assert (card.library_name, card.pipeline_tag) == ("chargen", "text-generation")
    assert (card.language, card.license, card.datasets) == ("en", None, None)
    assert card.tags == ["character-level", "lstm"]
    (figure,) = card.eval_results
    assert (figure.metric_type, figure.metric_value) == ("bits_per_character", bits)
    assert (figure.dataset_name, card.model_name) == ("fox.txt", "fox")
    chargen.load(fox).with_counts("a hen. " * 20).save(tmp_path / "counted")
    hub.push(tmp_path / "counted", "anna/counted")
    card = _card(server.repositories["anna/counted"].commits[-1]["README.md"]).data
    assert card.eval_results is None  # the figures are those of the network alone
    hub.push("sentiment", "anna/mood")
    card = _card(server.repositories["anna/mood"].commits[-1]["README.md"])
    assert card.data.pipeline_tag == "text-classification"
    assert {figure.metric_type for figure in card.data.eval_results} == {"accuracy", "f1"}
    assert card.text.lstrip().startswith("# ")


def test_the_card_of_a_classifier_without_a_network(server: Hub, tmp_path: Path) -> None:
    examples = separable(20)
    Classifier(count_ngrams(examples), examples.classes).save(tmp_path / "counts")
    hub.push(tmp_path / "counts", "anna/counts")
    card = _card(server.repositories["anna/counts"].commits[-1]["README.md"]).data
    assert (card.pipeline_tag, card.tags) == ("text-classification", ["character-level"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_card_of_ones_own_stays(server: Hub, fox: Path, tmp_path: Path, encoding: str) -> None:
    mine = Path(shutil.copytree(fox, tmp_path / "mine"))
    (mine / "README.md").write_text(
        "---\nlicense: cc0-1.0\ntags: [\u732b]\nauthor: 'a: b'\n---\n# Mine\n\n---\nmore\n",
        encoding,
    )
    hub.push(mine, "anna/mine")
    card = _card(server.repositories["anna/mine"].commits[-1]["README.md"])
    assert card.data.to_dict().items() >= {"license": "cc0-1.0", "author": "a: b"}.items()
    assert (card.data.tags, card.data.pipeline_tag) == (["\u732b"], "text-generation")
    assert card.text.lstrip() == "# Mine\n\n---\nmore\n"
    hub.push(mine, "anna/mine", license="mit")
    card = _card(server.repositories["anna/mine"].commits[-1]["README.md"])
    assert card.data.license == "mit"


@pytest.mark.parametrize("header", ["a: [", "- a", "a: b: c", "'"])
def test_a_header_that_is_no_yaml(server: Hub, fox: Path, tmp_path: Path, header: str) -> None:
    mine = Path(shutil.copytree(fox, tmp_path / "mine"))
    (mine / "README.md").write_text(f"---\n{header}\n---\n# Mine\n")
    with pytest.raises(ConfigError, match="README.md: its header between --- and --- is not YAML"):
        hub.push(mine, "anna/mine")
    assert server.asked == []


def test_a_card_that_the_hub_refuses(server: Hub, fox: Path) -> None:
    with pytest.raises(ConfigError, match="the hub refuses the card of anna/fox: .*must be one of"):
        hub.push(fox, "anna/fox", license="nobody-knows")


def test_a_run_goes_on_elsewhere(server: Hub, fox: Path, tmp_path: Path) -> None:
    hub.push(fox, "anna/fox", training=True)
    where = hub.pull("anna/fox", tmp_path / "there", training=True)
    assert chargen.resume(where, steps=8).steps == 8
    hub.pull("anna/fox", tmp_path / "light")
    with pytest.raises(CheckpointError, match="cannot be resumed"):
        chargen.resume(tmp_path / "light", steps=8)


def test_a_commit_replaces_the_one_before_and_can_be_asked_for(server: Hub, fox: Path) -> None:
    first = hub.push(fox, "anna/fox", training=True, public=True)
    server.repositories["anna/fox"].commits[-1]["notes.txt"] = b"of a person"
    hub.push(fox, "anna/fox")
    files = server.repositories["anna/fox"].commits[-1]
    assert not server.repositories["anna/fox"].private
    assert "notes.txt" in files
    assert not any(name.startswith("training/") for name in files)
    hub.pull("anna/fox", "old", revision=first.revision, training=True)
    assert Path("old/training/state.json").exists()
    with pytest.raises(CheckpointError, match="no such revision"):
        hub.pull("anna/fox", "new", revision="v9")
    assert not Path("new").exists()


def _tamper_weights(files: dict[str, bytes], _: Hub) -> None:
    data = bytearray(files["model.safetensors"])
    data[-1] ^= 1
    files["model.safetensors"] = bytes(data)


def _lie_about_size(files: dict[str, bytes], server: Hub) -> None:
    server.sizes["model.safetensors"] = 10**12


def _lose_the_card(files: dict[str, bytes], server: Hub) -> None:
    server.gone.add("README.md")


def _leave_out(files: dict[str, bytes], _: Hub) -> None:
    del files["vocabulary.json"]


def _escape(files: dict[str, bytes], _: Hub) -> None:
    manifest = json.loads(files["manifest.json"])
    manifest["files"]["../evil.json"] = manifest["files"]["config.json"]
    files["manifest.json"] = json.dumps(manifest).encode()
    files["../evil.json"] = files["config.json"]


def _no_manifest(files: dict[str, bytes], _: Hub) -> None:
    del files["manifest.json"]


def _pickle(files: dict[str, bytes], _: Hub) -> None:
    manifest = json.loads(files["manifest.json"])
    manifest["files"]["model.bin"] = manifest["files"].pop("model.safetensors")
    files["manifest.json"] = json.dumps(manifest).encode()
    files["model.bin"] = files["model.safetensors"]


def _another_kind(files: dict[str, bytes], _: Hub) -> None:
    manifest = json.loads(files["manifest.json"])
    manifest["kind"] = "painter"
    files["manifest.json"] = json.dumps(manifest).encode()


@pytest.mark.parametrize(
    ("tamper", "told"),
    [
        (_tamper_weights, "SHA-256"),
        (_lie_about_size, "does not have the size"),
        (_lose_the_card, "the hub refused"),
        (_leave_out, "vocabulary.json is missing"),
        (_escape, "not a valid name of a file in a checkpoint"),
        (_no_manifest, "has no checkpoint"),
        (_pickle, "not a valid name of a file in a checkpoint"),
        (_another_kind, "not known to this version of chargen"),
    ],
)
def test_what_is_not_as_it_says_is_refused_and_leaves_nothing(
    server: Hub, fox: Path, tmp_path: Path, tamper: object, told: str
) -> None:
    hub.push(fox, "anna/fox")
    assert callable(tamper)
    tamper(server.repositories["anna/fox"].commits[-1], server)
    with pytest.raises(CheckpointError, match=told):
        hub.pull("anna/fox", tmp_path / "fox")
    assert list(tmp_path.iterdir()) == []
    fetched = {name.rpartition("/")[2] for name in server.asked if "/resolve/" in name}
    assert "model.bin" not in fetched
    assert "evil.json" not in fetched


def test_the_hubs_refusals_are_sentences(
    server: Hub, fox: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CheckpointError, match="there is no repository anna/nothing"):
        hub.pull("anna/nothing")
    for name in ("fox", "a/b/c", "anna/..", "anna/fo x", None, Path("anna/fox")):
        with pytest.raises(ConfigError, match="is not the name of a repository"):
            hub.pull(name)
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(CheckpointError, match="log in"):
        hub.push(fox, "anna/fox")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SystemExit) as ended:
        main(["pull", "anna/fox"])
    assert ended.value.code == 1
    assert capfd.readouterr().err == "chargen: the hub cannot be reached for anna/fox\n"


@pytest.mark.parametrize(
    "token", ["hf_t\u00e9st", "hf_\u732b", "hf_\udcff", "hf te st", "hf_\x1b[2J"]
)
@pytest.mark.parametrize("command", [["push", "FOX", "anna/fox"], ["pull", "anna/fox"]])
@pytest.mark.parametrize("place", ["variable", "file"])
def test_a_token_that_can_be_none(
    server: Hub,
    fox: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    token: str,
    command: list[str],
    place: str,
) -> None:
    if place == "variable":
        monkeypatch.setenv("HF_TOKEN", token)
    else:
        kept = tmp_path / "token"
        kept.write_bytes(token.encode("utf-8", "surrogateescape"))
        monkeypatch.delenv("HF_TOKEN")
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(kept))
    with pytest.raises(SystemExit) as ended:
        main([str(fox) if word == "FOX" else word for word in command])
    told = capfd.readouterr()
    assert ended.value.code == 2
    assert told.out == ""
    assert told.err.startswith("chargen: the token for the hub has invalid characters")
    assert told.err.count("\n") == 1
    assert token[3:] not in told.err
    assert server.asked == []


def test_the_commands(server: Hub, fox: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["push", str(fox), "anna/fox", "--json"])
    assert ended.value.code == 0
    assert json.loads(capfd.readouterr().out)["url"] == f"{server.url}/anna/fox"
    with pytest.raises(SystemExit) as ended:
        main(["pull", "anna/fox", "--out", "here"])
    assert ended.value.code == 0
    assert capfd.readouterr().out == "here\n"
    assert checkpoint.kind_of(Path("here")) == "language-model"


def test_needs_the_extra(monkeypatch: pytest.MonkeyPatch, fox: Path) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"chargen\[hub\]"):
        hub.push(fox, "anna/fox")
