"""The page served to a real browser."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import chargen
from tests.processes import warm_processes

TEXT = "the quick brown fox jumps over the lazy dog, and the dog sleeps on.\n" * 200
SMALL: dict[str, Any] = {"hidden_size": 32, "batch_size": 4, "window": 32, "precision": "float32"}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model called fox; copy it before changing it."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "fox.txt").write_text(TEXT)
    chargen.train(folder / "fox.txt", folder / "fox", steps=60, **SMALL)
    (folder / "fox.txt").unlink()
    return folder


@pytest.fixture(scope="session")
def folder(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's: a copy of `models`, and a model called slow that goes on for long."""
    found = Path(shutil.copytree(models, tmp_path_factory.mktemp("page") / "models"))
    large = SMALL | {"hidden_size": 1024, "num_layers": 4, "optimizer": "adamw", "samples": False}
    chargen.train(out=found / "slow", texts=[TEXT[:1500]], steps=1, **large)
    return found


@pytest.fixture(scope="session")
def address(folder: Path) -> Iterator[str]:
    """Of the page; its tests share it, as people would."""
    pytest.importorskip("gradio", reason="needs chargen[web]")
    from chargen.web.server import served

    with contextlib.ExitStack() as stack:
        with warm_processes():
            found = stack.enter_context(served(folder))
        yield found


@pytest.fixture(scope="session")
def phone(browser: Any) -> Any:
    """What people share who use the page: a small window, and what the browser keeps of it."""
    permissions = ["clipboard-read", "clipboard-write"]
    return browser.new_context(viewport={"width": 390, "height": 844}, permissions=permissions)


class Person:
    """Somebody in front of the page."""

    def __init__(self, phone: Any, address: str) -> None:
        self.asked: list[str] = []
        self.page = phone.new_page()
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.set_default_timeout(60_000)
        self.page.goto(address)
        self.press("Write", wait_only=True)

    def press(self, name: str, wait_only: bool = False) -> None:
        button = self.page.get_by_role("button", name=name, exact=True)
        button.wait_for() if wait_only else button.click()

    def go_to(self, tab: str) -> None:
        self.page.get_by_role("tab", name=tab).click()

    def fill(self, label: str, value: str) -> None:
        self.page.get_by_role("tabpanel").get_by_label(label, exact=True).fill(value)

    def paste(self, label: str, value: str) -> None:
        box = self.page.get_by_role("tabpanel").get_by_label(label, exact=True)
        box.click()
        self.page.evaluate("text => navigator.clipboard.writeText(text)", value)
        self.page.keyboard.press("Control+v")

    def choose_file(self, path: Path) -> None:
        """Through the dialogue of the browser, and again where the page did not listen yet."""
        from playwright.sync_api import TimeoutError as TooLate

        for _ in range(5):
            with contextlib.suppress(TooLate):
                with self.page.expect_file_chooser(timeout=3_000) as chooser:
                    self.page.get_by_text("Click to Upload").click()
                chooser.value.set_files(path)
                self.page.locator(".file-preview").wait_for(timeout=10_000)
                return
        raise AssertionError("the page takes no file")

    def wait_for(self, selector: str, words: str) -> str:
        """The text of an element, as soon as it holds `words`."""
        found = self.page.locator(selector).filter(has_text=words)
        found.wait_for()
        return str(found.inner_text())

    def shows(self, selector: str, text: str) -> None:
        """Wait until an element has this text, its spaces and line ends apart."""
        from playwright.sync_api import expect

        expect(self.page.locator(selector)).to_have_text(text, timeout=60_000)

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).inner_text())
