"""What the page answers at a press, without a browser: defaults, and checkpoints that change."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import chargen
from chargen.cli.main import cli
from chargen.language_model import LanguageModel
from chargen.sentiment.classifier import Classifier
from chargen.storage import checkpoint
from chargen.web import views
from chargen.web.jobs import JobRunner
from chargen.web.models import Models
from tests.sentiment.models import save_classifier, tiny_classifier

# Importing it takes seconds, which only the process that runs these tests need spend.
pytestmark = pytest.mark.skipif(find_spec("gradio") is None, reason="needs chargen[web]")


class Page:
    """The page of a folder, and what its buttons do."""

    def __init__(self, folder: Path) -> None:
        from chargen.web.page import build

        self.blocks: Any = build(Models(folder), JobRunner(folder))
        named = [b for b in self.blocks.blocks.values() if getattr(b, "label", None)]
        self.values = {block.label: block.value for block in named if hasattr(block, "value")}

    def press(self, button: str) -> Callable[..., Any]:
        """The function behind a button."""
        import gradio

        (place,) = (
            number
            for number, block in self.blocks.blocks.items()
            if isinstance(block, gradio.Button) and block.value == button
        )
        (found,) = (f.fn for f in self.blocks.fns.values() if (place, "click") in f.targets)
        assert callable(found)
        return found

    def write(self, name: str) -> str:
        """What stands beside the text at the end."""
        *_, (_, note) = self.press("Write")(name, "the", 20, 0.8, 0, 1, 0, False)
        return str(note)

    def judge(self, name: str, text: str = "a fine day") -> str:
        return str(self.press("Judge")(name, text))


@pytest.fixture
def folder(models: Path, tmp_path: Path) -> Path:
    """A folder with a writer, fox, and a judge, mood."""
    copy = Path(shutil.copytree(models, tmp_path / "models"))
    save_classifier(tiny_classifier(), copy / "mood")
    return copy


def test_it_begins_with_the_defaults_of_the_command_line(folder: Path) -> None:
    page, sample = Page(folder), cli.commands["sample"]
    defaults = {option.opts[0]: option.to_info_dict()["default"] for option in sample.params}
    for label, option, off in (
        ("Length in characters", "--length", None),
        ("Temperature", "--temperature", None),
        ("Top-k (0: off)", "--top-k", 0),
        ("Top-p (1: off)", "--top-p", 1),
    ):
        default = defaults[option]
        assert page.values[label] == (off if default is None else default)
    values = [page.values[label] for label in ("Length in characters", "Temperature")]
    *_, (shown, _) = page.press("Write")("fox", "", *values, 0, 1, 0, False)
    assert page.values["Seed"] == 0  # shown, and counted on by "Another"
    assert chargen.load(folder / "fox").generate(seed=0) in shown


def test_characters_that_a_model_has_never_seen_are_told(folder: Path) -> None:
    page, told = Page(folder), "has never seen these characters (read as unknown): "
    *_, (_, note) = page.press("Write")("fox", "the \u2603 & \x07", 20, 0.8, 0, 1, 0, False)
    assert f"<p>the model {told}\u2603 &amp; \\x07</p>" in note
    assert f"<p>the encoder {told}\u2603</p>" in page.judge("mood", "a \u2603")
    assert told not in page.write("fox") + page.judge("mood")


def test_a_typed_prompt_is_utf_8_for_a_model_of_raw_bytes(tmp_path: Path) -> None:
    (tmp_path / "tune").write_bytes(bytes(range(256)) * 4)
    sizes: dict[str, Any] = {"hidden_size": 8, "batch_size": 4, "window": 8, "steps": 1}
    chargen.train(tmp_path / "tune", tmp_path / "raw", raw_bytes=True, precision="float32", **sizes)
    *_, (shown, _) = Page(tmp_path).press("Write")("raw", "é€", 20, 0, 0, 1, 0, False)
    prompt = "é€".encode().decode("latin-1")
    text = chargen.load(tmp_path / "raw").generate(prompt, max_chars=20, temperature=0)
    assert views.written(prompt, text, (), False) == shown


def _remove(path: Path) -> None:
    shutil.rmtree(path)


def _leave_nothing(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


def _file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("")


def _loop(path: Path) -> None:
    shutil.rmtree(path)
    path.symlink_to(path.name)


def _no_manifest(path: Path) -> None:
    (path / checkpoint.MANIFEST).unlink()


def _manifest_is_a_folder(path: Path) -> None:
    (path / checkpoint.MANIFEST).unlink()
    (path / checkpoint.MANIFEST).mkdir()


def _cut_off(path: Path) -> None:
    data = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(data[:-1])


def _no_weights(path: Path) -> None:
    (path / "model.safetensors").unlink()


HARM = [
    *(_remove, _leave_nothing, _file, _loop, _no_manifest, _manifest_is_a_folder),
    *(_cut_off, _no_weights),
]


def is_one_sentence(note: str) -> bool:
    return note.startswith('<p class="problem"') and note.count("<p") == 1 and "Trace" not in note


def harmed_after(name: str, harm: Callable[[Path], None]) -> Callable[[Path], str | None]:
    """A look at the kind of a checkpoint, after which it is harmed."""
    kind_of = checkpoint.kind_of

    def look(path: Path) -> str | None:
        kind = kind_of(path)
        if path.name == name and kind is not None:
            harm(path)
        return kind

    return look


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("when", ["before", "between"])
def test_a_checkpoint_that_was_harmed_is_a_sentence(
    harm: Callable[[Path], None], when: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(folder)
    for name, ask in (("fox", page.write), ("mood", page.judge)):
        if when == "before":
            harm(folder / name)
        else:  # the page has found it, and reads it next
            monkeypatch.setattr(checkpoint, "kind_of", harmed_after(name, harm))
        assert is_one_sentence(ask(name))
        monkeypatch.undo()
    page.press("Write with it")()
    assert "reviews" in Models(folder).language_models()
    if when == "before":  # whoever comes then finds the same, and sees the others
        assert is_one_sentence(Page(folder).write("fox"))


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), MemoryError()])
def test_what_the_machine_refuses_is_a_sentence(
    error: Exception, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(LanguageModel, "load", refuse)
    monkeypatch.setattr(Classifier, "load", refuse)
    page = Page(folder)
    for told in (page.write("fox"), page.judge("mood")):
        assert is_one_sentence(told)
        assert "memory" in told or "cannot be read just now" in told


@pytest.fixture
def exchanging(folder: Path) -> Iterator[None]:
    """While a run saves its checkpoint again and again, and somebody moves it away at times."""
    stored, ended = checkpoint.load(folder / "fox"), threading.Event()

    def save() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            stored.documents["config"]["number"] = number
            checkpoint.save(folder / "fox", stored)
            if number % 5 == 0:
                (folder / "fox").rename(folder / "away")
                shutil.rmtree(folder / "away")

    thread = threading.Thread(target=save)
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.mark.usefixtures("exchanging")
def test_a_checkpoint_that_is_exchanged_is_read_or_told(folder: Path) -> None:
    page = Page(folder)
    for _ in range(100):
        note = page.write("fox")
        assert "20 characters" in note or is_one_sentence(note)


def test_a_text_of_which_cleaning_leaves_nothing_gets_no_verdict(tmp_path: Path) -> None:
    save_classifier(tiny_classifier(clean="html"), tmp_path / "mood")
    page = Page(tmp_path)
    assert "there is no text" in page.judge("mood", "<br> &nbsp; <p>")
    assert "The verdict so far" in page.judge("mood", "<br>fine")


def test_a_long_text_is_judged_by_what_cleaning_leaves(tmp_path: Path) -> None:
    save_classifier(tiny_classifier(clean="html"), tmp_path / "mood")
    page, text = Page(tmp_path), " ".join(["a fine day"] * 2_500)
    shown = page.judge("mood", text)
    assert "No trace" in shown
    assert "the first" not in shown
    assert page.judge("mood", "<br>" * 30_000 + text) == shown  # 120,000 characters of markup
