"""What tests need: one thread, no clock, a cache folder that is not the user's, a browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

# More threads would only change the order of sums, and two processes of two threads each, side by
# side on two cores, spend their time waiting for each other. numpy's products read this when numpy
# is imported, and so do the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

import torch

# No deadline, since a machine may be busy, and the same cases in every run; for others:
# pytest --hypothesis-profile=default --hypothesis-seed=1
settings.register_profile("same", deadline=None, derandomize=True)
settings.load_profile("same")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    torch.set_num_threads(1)  # should a plugin have imported torch before
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("CHARGEN_CACHE_DIR", str(folder))
        yield


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's chromium, driven by Playwright."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs chromium (apt-get install chromium)")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()
