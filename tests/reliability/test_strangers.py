"""Checkpoints from strangers: the short form of `benchmarks/fuzz_checkpoints.py`, and no pickle."""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import pickle
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from chargen.cli.terminal import visible_json
from chargen.errors import ChargenError, CheckpointError, ConfigError, brief
from chargen.language_model import LanguageModel
from chargen.runtime.device import choose_device
from chargen.sampling.steering import Steering
from chargen.sentiment import members as ngrams
from chargen.sentiment.classifier import Classifier
from chargen.storage import checkpoint
from tests.processes import in_process

from .loading import ROOT, benchmark

UNPICKLES = re.compile(
    r"\b(c?[pP]ickle|cloudpickle|dill|joblib|shelve|marshal)\b|(?<!safetensors\.)torch\.(load|save)\(|allow_pickle"
)


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    return benchmark("fuzz_checkpoints")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_damage_is_refused_or_harmless(
    fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngrams, "BUCKET_BITS", fuzz.SMALL_NGRAMS)  # put back afterwards
    found = fuzz.run(300, 1, tmp_path)
    assert found["failures"] == []
    assert found["ends"]["refused"] > 200
    assert found["ends"]["works"] > 10
    # Of what unfolds there is one case among these.
    assert all(found["kinds"][kind]["refused"] for kind in fuzz.KINDS)


def test_floats_that_torch_cannot_judge_are_read_as_float32(
    fuzz: ModuleType, tmp_path: Path
) -> None:
    stored = fuzz.language_model(fuzz.CharVocabulary("\n abc"))
    weights = stored.tensors["model"]
    weights["output.bias"] = weights["output.bias"].to(torch.float8_e4m3fn)
    checkpoint.save(tmp_path / "small", stored)
    LanguageModel.load(tmp_path / "small")
    # More than a float32 holds.
    weights["output.bias"] = torch.full(weights["output.bias"].shape, 1e300, dtype=torch.float64)
    checkpoint.save(tmp_path / "large", stored)
    with pytest.raises(CheckpointError, match=r"output\.bias"):
        LanguageModel.load(tmp_path / "large")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_weights_that_overflow_are_told(
    fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngrams, "BUCKET_BITS", fuzz.SMALL_NGRAMS)
    stored = fuzz.classifier()
    stored.tensors["ngrams"]["biases"].fill_(3e38)
    stored.tensors["ngrams"]["weights"].fill_(3e38)
    checkpoint.save(tmp_path / "classifier", stored)
    with pytest.raises(ChargenError, match="not numbers"):
        Classifier.load(tmp_path / "classifier").predict_proba(["a bad day"])
    stored = fuzz.language_model(fuzz.CharVocabulary("\n abc"))
    stored.tensors["model"]["layers.0.bias_ih_l0"].fill_(20)  # all outputs are near 1
    stored.tensors["model"]["output.weight"].fill_(3e38)
    checkpoint.save(tmp_path / "lm", stored)
    with pytest.raises(ChargenError, match="not numbers"):
        LanguageModel.load(tmp_path / "lm").score("abc")


def test_no_line_of_the_package_unpickles() -> None:
    for path in sorted((ROOT / "chargen").rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            code = line.split("#")[0]
            if UNPICKLES.search(code):
                pytest.fail(f"{path.name}, line {number}: {line.strip()}")


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("unpickles")


def load_without_pickle(told: Connection) -> None:
    for name in ("load", "loads", "Unpickler", "_Unpickler"):
        setattr(pickle, name, refuse)
    torch.load = refuse
    seen = []
    sys.addaudithook(lambda event, _: seen.append(event) if event == "pickle.find_class" else None)
    LanguageModel.load(ROOT / "checkpoints/reviews").generate(max_chars=3)
    Classifier.load(ROOT / "checkpoints/sentiment").predict_proba(["a fine film"])
    told.send(seen)


def test_no_load_unpickles() -> None:
    hearing, telling = multiprocessing.Pipe(duplex=False)
    process = in_process(load_without_pickle, telling)  # nothing removes such a hook
    process.join()
    assert process.exitcode == 0
    assert hearing.recv() == []


# ---------------------------------------------------------------- what was found by it


Change = Callable[[dict[str, Any]], Any]


def saved(folder: Path, fuzz: ModuleType, name: str = "", data: bytes = b"") -> Path:
    """A small language model with one file that is another, and the hash of that."""
    checkpoint.save(folder, fuzz.language_model(fuzz.CharVocabulary("\n abc")))
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    fuzz.write(folder, fuzz.repaired(files | ({name: data} if name else {})))
    return folder


def changed(folder: Path, fuzz: ModuleType, name: str, change: Change) -> Path:
    """The same where a JSON document is changed in place, or is what `change` gives."""
    document = json.loads((saved(folder, fuzz) / name).read_bytes())
    return saved(folder, fuzz, name, json.dumps(change(document) or document).encode())


def told(directory: Path, *words: str) -> None:
    """Loading ends in a short sentence with these words."""
    with pytest.raises(CheckpointError) as caught:
        LanguageModel.load(directory)
    message = str(caught.value)
    for word in (str(directory), *words):
        assert word in message
    assert message.isprintable()
    assert len(message) < 1000


FIELDS: dict[str, tuple[str, Any]] = {
    "a number that no float holds": ("hidden_size", 10**400),
    "layers that take minutes to make": ("num_layers", 10_000),
    "a long value": ("cell", "x" * 10**6),
    "a long list": ("hidden_size", [0] * 10**5),
    "a long name": ("x" * 10**6, 1),
    "a number that is none": ("dropout", float("nan")),
}


@pytest.mark.parametrize("kind", FIELDS)
def test_fields_are_named_in_a_short_sentence(kind: str, fuzz: ModuleType, tmp_path: Path) -> None:
    key, value = FIELDS[kind]
    directory = changed(
        tmp_path / "model", fuzz, "config.json", lambda d: d["model"].__setitem__(key, value)
    )
    word = "NaN" if key == "dropout" else key.replace("_", "-")[:20]
    told(directory, "config.json", word)


JSON: dict[str, tuple[bytes, str]] = {
    "deep": (b'{"model": ' + b"[" * 300 + b"]" * 300 + b"}", "nested"),
    "a field twice": (b'{"a": 1, "b": 2, "a": 3}', "'a' occurs twice"),
    "many lists": (b"[" + b"[]," * 200_000 + b"0]", "larger"),
    "many numbers": (b"[" + b"1.5," * 3_000_000 + b"0]", "larger"),
}


@pytest.mark.parametrize("kind", JSON)
def test_documents_that_unfold(kind: str, fuzz: ModuleType, tmp_path: Path) -> None:
    data, word = JSON[kind]
    told(saved(tmp_path / "model", fuzz, "config.json", data), "config.json", word)


def test_unknown_fields_of_a_vocabulary_are_not_all_listed(
    fuzz: ModuleType, tmp_path: Path
) -> None:
    many = {f"f{i}": 0 for i in range(10_000)}
    told(changed(tmp_path / "model", fuzz, "vocabulary.json", lambda d: d | many), "'f0'")


def test_a_million_characters_in_little_memory(fuzz: ModuleType, tmp_path: Path) -> None:
    characters = "".join(map(chr, [*range(32, 0xD800), *range(0xE000, 10**6)]))
    for text, word in ((characters + characters[-1], "twice"), (characters[::-1], "out of order")):
        directory = changed(
            tmp_path / word, fuzz, "vocabulary.json", lambda d, t=text: d | {"characters": t}
        )
        peak = fuzz.Peak()
        told(directory, "vocabulary.json", word)
        assert peak.megabytes() < fuzz.MOST_MEGABYTES


@pytest.mark.parametrize(
    ("dtype", "shape", "count"), [("F32", [0, 2**63], 1), ("F32", [0], 50_000), ("F4", [8], 1)]
)
def test_headers_that_torch_cannot_follow(
    dtype: str, shape: list[int], count: int, fuzz: ModuleType, tmp_path: Path
) -> None:
    size = 0 if 0 in shape else 4
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}
    data = fuzz.header_of({f"t{i}": entry for i in range(count)}, bytes(size))
    told(saved(tmp_path / "model", fuzz, "model.safetensors", data), "model.safetensors")


def test_a_file_has_one_name(fuzz: ModuleType, tmp_path: Path) -> None:
    # By ten thousand names it would be read ten thousand times.
    directory = saved(tmp_path / "model", fuzz)
    manifest = json.loads((directory / checkpoint.MANIFEST).read_bytes())
    manifest["files"]["./config.json"] = manifest["files"]["config.json"]
    (directory / checkpoint.MANIFEST).write_text(json.dumps(manifest))
    told(directory, "./config.json")


def test_temperatures_of_every_float(
    fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngrams, "BUCKET_BITS", fuzz.SMALL_NGRAMS)
    stored = fuzz.classifier()
    for value, dtype in ((1.0, torch.float8_e5m2), (1e-300, torch.float64)):
        stored.tensors["model"]["temperature"] = torch.tensor(value).to(dtype)
        if dtype == torch.float64:  # 0 as the float32 that divides
            stored.tensors["model"]["temperature"] = torch.tensor(value, dtype=dtype)
        checkpoint.save(tmp_path / "classifier", stored)
        if value == 1:
            Classifier.load(tmp_path / "classifier")
        else:
            with pytest.raises(CheckpointError, match="temperature"):
                Classifier.load(tmp_path / "classifier")


@pytest.mark.parametrize("key", ["values", "neutral", "directions"])
def test_steering_by_numbers_that_no_float_holds(key: str) -> None:
    document: dict[str, Any] = {
        "labels": ["a", "b"],
        "source": "x",
        "values": [1.0, 1.0],
        "neutral": [0.0, 0.0],
        "directions": [[1.0, 0.0], [0.0, 1.0]],
    }
    Steering.from_document(document, "here")
    huge = 10**400
    document[key] = [[huge, 0], [0, 1]] if key == "directions" else [huge, 0]
    with pytest.raises(CheckpointError, match=f"here: {key}"):
        Steering.from_document(document, "here")


RESUMED: dict[str, tuple[str, Any, str]] = {
    "more streams than text": ("train.batch_size", 10**9, "batch_size"),
    "no number of streams": ("train.batch_size", None, "batch_size"),
    "more threads than a machine has": ("train.threads", 10**9, "threads"),
    "a device without values": ("train.device", "meta", "meta"),
    "a device that torch only names": ("train.device", "hpu", "hpu"),
    "a length that no float holds": ("plan.reading", 10**400, "plan.reading"),
    "a step that no float holds": ("progress.step", 10**400, "step"),
    "another text": ("vocabulary", " bcdefghijklmnopqrstuvwxyz", "vocabulary.json"),
}


@pytest.fixture(scope="module")
def interrupted(fuzz: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return fuzz.interrupted_run(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("kind", RESUMED)
def test_runs_that_cannot_go_on(
    kind: str, interrupted: checkpoint.Checkpoint, fuzz: ModuleType, tmp_path: Path
) -> None:
    place, value, word = RESUMED[kind]
    stored = copy.deepcopy(interrupted)
    if place == "vocabulary":
        characters = stored.documents["vocabulary"]["characters"]
        stored.documents["vocabulary"]["characters"] = characters[:-1] + "z"
    else:
        group, key = place.split(".")
        documents = stored.documents
        document = "training/state" if group == "progress" else "config"
        documents[document][group][key] = value
    checkpoint.save(tmp_path / "run", stored)
    with pytest.raises((CheckpointError, ConfigError), match=re.escape(word)) as caught:
        fuzz.use_run(tmp_path / "run")
    assert len(str(caught.value)) < 1000


def test_an_optimizer_that_forgot(
    interrupted: checkpoint.Checkpoint, fuzz: ModuleType, tmp_path: Path
) -> None:
    stored = copy.deepcopy(interrupted)
    name = next(n for n in stored.tensors["training/optimizer"] if n.endswith("exp_avg"))
    del stored.tensors["training/optimizer"][name]
    checkpoint.save(tmp_path / "run", stored)
    with pytest.raises(CheckpointError, match="optimizer"):
        fuzz.use_run(tmp_path / "run")


def test_what_was_found_is_told_briefly() -> None:
    assert brief(3) == "3"
    assert brief("\x1b[31m") == r"'\x1b[31m'"
    for large in ("x" * 10**6, [0] * 10**6, {"a": {"b": {"c": ["x" * 10**6] * 9}}}, 10**1000):
        assert len(brief(large)) < 300


def test_no_device_without_values() -> None:
    for name in ("meta", "hpu", "xla", "\x1b[31m"):
        with pytest.raises(ConfigError) as caught:
            choose_device(name)
        assert len(str(caught.value)) < 400


# ---------------------------------------------------------------- on a terminal


DRIVING = "\x07\x1b\x9b\u202e\u2066"
LABELS = ("bad\x1b[31m\u202e", "good\x07\x9b0m\nline")


def test_json_is_equal_and_drives_nothing() -> None:
    value = {DRIVING + "\U000e0041": ["é☃😀", "\ud800", 1.5, "a\nb"]}
    text = visible_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value
    assert text.isprintable()
    assert "é☃😀" in text


def odd_checkpoints(folder: Path, fuzz: ModuleType) -> None:
    """A language model and a classifier whose every text drives terminals."""
    characters = "".join(sorted("\n ab" + DRIVING))
    model = fuzz.language_model(fuzz.CharVocabulary(characters))
    model.tensors["model"]["output.bias"][2:] += 3.0  # it writes them
    model.documents["config"] |= {DRIVING: DRIVING, "results": {DRIVING: [DRIVING, {DRIVING: 1}]}}
    checkpoint.save(folder / "lm", model)
    stored = fuzz.classifier()
    stored.documents["config"]["labels"] = list(LABELS)
    checkpoint.save(folder / "classifier", stored)
    stored.kind = "a\x1b[31m\u202ekind"
    checkpoint.save(folder / "kind", stored)
    stored.kind = "language-model"
    stored.tensors = {"model": {"\x1b[31m\u202e": torch.zeros(1)}}
    stored.documents["config"] = {"model": {"\x1b[31m\x07\u202e": 1}}
    checkpoint.save(folder / "field", stored)


COMMANDS = {
    "info": ("info", "lm"),
    "info in JSON": ("info", "lm", "--json"),
    "sample": ("sample", "lm", "--length", "200"),
    "sample in JSON": ("sample", "lm", "--length", "200", "--json"),
    "samples": ("sample", "lm", "--num-samples", "2", "--length", "50"),
    "a character unknown": ("sample", "lm", "--prompt", "\u202d\x1c", "--length", "3"),
    "predict": ("sentiment", "predict", "classifier", "a text\x1b[31m"),
    "predict in JSON": ("sentiment", "predict", "classifier", "a text\x1b[31m", "--json"),
    "another kind": ("sample", "kind"),
    "an unknown field": ("sample", "field"),
    "no such folder": ("info", "no\x1b[31m\u202e"),
}


def on_terminal(arguments: Sequence[str], folder: Path) -> str:
    """What `chargen` with these arguments shows on a terminal, in a process of its own."""
    import pty

    from chargen.cli.main import main

    child, screen = pty.fork()
    if child == 0:
        try:
            os.chdir(folder)
            # pytest has put its own files in their place.
            sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8") for number in (1, 2))
            main(list(arguments))
        except SystemExit:
            pass
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
    shown = b""
    try:
        while block := os.read(screen, 1 << 16):
            shown += block
    except OSError:  # Linux: the other side is closed
        pass
    finally:
        os.close(screen)
        os.waitpid(child, 0)
    return shown.decode("utf-8", "surrogateescape")


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX terminal")
@pytest.mark.parametrize("kind", COMMANDS)
def test_nothing_that_drives_a_terminal_reaches_it(
    kind: str, fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngrams, "BUCKET_BITS", fuzz.SMALL_NGRAMS)
    odd_checkpoints(tmp_path, fuzz)
    shown = on_terminal(COMMANDS[kind], tmp_path)
    assert "Traceback" not in shown
    assert "\\x" in shown or "\\u" in shown
    for character in shown.replace("\r\n", "\n"):
        # A terminal turns each newline into a return and a newline.
        assert character in "\n\t" or character.isprintable(), repr(character)
