"""A standard output whose encoding cannot hold the script of what is written to it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chargen.cli.main import main
from tests.sentiment.models import save_classifier, tiny_classifier

from .conftest import SMALL

TEXT = "η γρήγορη αλεπού, 素早い狐 и быстрая лиса 🦊.\n" * 100

COMMANDS = {
    "train": f"train CORPUS --out OUT --steps 2 -q {' '.join(SMALL)}",
    "sample": "sample MODEL --prompt 狐🦊 --length 300 --seed 1",
    "samples": "sample MODEL --num-samples 2 --length 300 --seed 1",
    "sample as JSON": "sample MODEL --prompt 狐🦊 --length 300 --seed 1 --json",
    "score": "score MODEL CORPUS --no-color",
    "painted": "score MODEL CORPUS --color",
    "score as JSON": "score MODEL CORPUS --json",
    "info": "info MODEL",
    "info as JSON": "info MODEL --json",
    "memorization": "memorization MODEL CORPUS --passages 5 --show 2",
    "corpus info": "corpus info CORPUS",
    "corpus info as JSON": "corpus info CORPUS --json",
    "corpus clean": "corpus clean",
    "predict": "sentiment predict CLASSIFIER λύπη 🦊",
    "predict as JSON": "sentiment predict CLASSIFIER λύπη 🦊 --json",
    "explain": "sentiment explain CLASSIFIER λύπη",
    "explain as JSON": "sentiment explain CLASSIFIER λύπη --json",
}

Into = Callable[[str, str, Path], bytes]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("encodings")
    corpus, model = folder / "αλεπού.txt", folder / "狐"
    corpus.write_text(TEXT, encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["train", str(corpus), "--out", str(model), "--steps", "30", "--quiet", *SMALL])
    classifier = save_classifier(tiny_classifier(("плохо", "好")), folder / "classifier")
    return {"CORPUS": str(corpus), "MODEL": str(model), "CLASSIFIER": str(classifier)}


@pytest.fixture
def into(places: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Into:
    """Run a command with a stdout of some encoding, and give the bytes that came."""

    def run(command: str, encoding: str, out: Path) -> bytes:
        words = [{**places, "OUT": str(out)}.get(word, word) for word in command.split()]
        data = io.BytesIO()
        stream = io.TextIOWrapper(data, encoding=encoding, errors="strict")
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(SystemExit) as stopped:
            main(words)
        sys.stdout.flush()
        assert stopped.value.code == 0
        assert stream.encoding == encoding
        return data.getvalue()

    return run


@pytest.mark.parametrize("name", COMMANDS)
def test_what_it_cannot_hold_is_escaped(name: str, into: Into, tmp_path: Path) -> None:
    plain, narrow, ascii_only = (
        into(COMMANDS[name], encoding, tmp_path / encoding)
        for encoding in ("utf-8", "cp1252", "ascii")
    )
    if name not in ("train", "corpus clean"):  # which name their folders
        assert not plain.isascii()
    narrow.decode("cp1252")
    assert ascii_only.isascii()
    if "--json" in COMMANDS[name]:
        expected = [json.loads(line) for line in plain.decode().splitlines()]
        for found in (narrow.decode("cp1252"), ascii_only.decode("ascii")):
            assert [json.loads(line) for line in found.splitlines()] == expected
    elif name == "sample":
        expected = plain.decode()
        assert ascii_only.decode() == "".join(
            c if c.isascii() else json.dumps(c)[1:-1] for c in expected
        )
    if name == "train":
        assert (tmp_path / "ascii" / "manifest.json").exists()


SCRIPT = "from chargen.cli.scripts import run_script; run_script(lambda: print('\\u72d0\\udc80'))"


# Bytes that are no text come in as surrogates, which no encoding holds.
@pytest.mark.parametrize(
    ("encoding", "arguments"),
    [
        (
            "ascii",
            ["-m", "chargen", "sample", "MODEL", "--prompt", b"\xe2\xff\n", "--length", "50"],
        ),
        *((encoding, ["-c", SCRIPT]) for encoding in ("cp1252", "ascii", "ascii:strict", "utf-8")),
    ],
)
def test_the_entry_points(
    places: dict[str, str], encoding: str, arguments: list[str | bytes]
) -> None:
    done = subprocess.run(
        [sys.executable, *(places["MODEL"] if word == "MODEL" else word for word in arguments)],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=False,
    )
    assert b"Traceback" not in done.stderr
    assert done.returncode == 0
    done.stdout.decode(encoding.partition(":")[0])
    assert rb"\udc80" in done.stdout or rb"\udce2" in done.stdout
