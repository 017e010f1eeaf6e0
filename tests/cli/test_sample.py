from __future__ import annotations

import errno
import json
import os
import re
import sys
from pathlib import Path

import pytest

from chargen.cli.main import main
from tests.sentiment.making import save_lm

from .conftest import Command


def test_the_same_seed_gives_the_same_text(chargen: Command, trained: Path) -> None:
    arguments = ("sample", trained, "--length", 80, "--temperature", 1.5, "--seed", 5)
    streamed = chargen(*arguments).out
    assert streamed == chargen(*arguments).out
    assert json.loads(chargen(*arguments, "--json").out)["text"] + "\n" == streamed
    assert chargen("sample", trained, "--length", 80, "--temperature", 1.5).out != streamed


@pytest.mark.parametrize("options", [(), ("--num-samples", 3), ("--json",), ("--prompt", "the ")])
def test_without_a_seed_the_one_that_was_drawn_is_told(
    chargen: Command, trained: Path, options: tuple[object, ...]
) -> None:
    arguments = ("sample", trained, "--length", 60, "--temperature", 1.5, *options)
    first, second = chargen(*arguments), chargen(*arguments)
    assert first.out != second.out
    found = re.fullmatch(r"note: drawn with --seed (\d+)\n", first.err)
    assert found
    again = chargen(*arguments, "--seed", found[1])
    assert (again.out, again.err) == (first.out, "")
    quiet = chargen(*arguments, "--quiet")
    assert quiet.err == ""
    assert quiet.out != first.out


def test_each_text_of_a_batch_is_that_of_its_seed_alone(chargen: Command, trained: Path) -> None:
    common = ("sample", trained, "--prompt", "the ", "--length", 40, "--temperature", 1.2, "--json")
    batch = [
        json.loads(line)
        for line in chargen(*common, "--num-samples", 3, "--seed", 8).out.splitlines()
    ]
    assert [row["seed"] for row in batch] == [8, 9, 10]
    for row in batch:
        assert row.keys() >= {"text", "prompt", "log_probs", "seed"}
        assert len(row["log_probs"]) == len(row["text"]) == 40
        alone = json.loads(chargen(*common, "--seed", row["seed"]).out)
        assert alone["text"] == row["text"]


def test_it_has_learnt_the_text(chargen: Command, trained: Path) -> None:
    result = chargen("sample", trained, "--prompt", "the quick ", "--length", 9, "--temperature", 0)
    assert result.out == "the quick brown fox\n"


def test_stop_and_prompt_sources(chargen: Command, trained: Path, tmp_path: Path) -> None:
    common = ("--temperature", 0, "--length", 60, "--stop", "jumps", "--stop", "zzz")
    path = tmp_path / "prompt.txt"
    path.write_text("the quick \n")
    expected = chargen("sample", trained, "--prompt", "the quick ", *common).out
    assert expected == "the quick brown fox \n"
    assert chargen("sample", trained, "--prompt-file", path, *common).out == expected
    piped = chargen("sample", trained, "--prompt", "-", *common, stdin="the quick ")
    assert piped.out == expected


def test_a_prompt_of_unknown_characters_is_named_not_fatal(chargen: Command, trained: Path) -> None:
    result = chargen("sample", trained, "--prompt", "猫", "--length", 10)
    assert result.code == 0
    assert "猫" in result.err
    assert chargen("sample", trained, "--prompt", "猫", "--unknown", "skip").code == 0
    refused = chargen("sample", trained, "--prompt", "猫", "--unknown", "error")
    assert refused.code == 2
    assert "猫" in refused.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--top-k", "0"], "--top-k"),
        (["--temperature", "-1"], "--temperature"),
        (["--temperature", "nan"], "--temperature"),
        (["--top-p", "0"], "--top-p"),
        (["--num-samples", "0"], "--num-samples"),
        (["--prompt", "a", "--prompt-file", "b"], "--prompt"),
    ],
)
def test_impossible_options(
    chargen: Command, trained: Path, arguments: list[str], words: str
) -> None:
    result = chargen("sample", trained, *arguments)
    assert result.code == 2
    assert words in result.err


def test_missing_checkpoints_are_named(chargen: Command, tmp_path: Path) -> None:
    result = chargen("sample", tmp_path / "nowhere")
    assert result.code == 1
    assert "nowhere" in result.err
    assert "manifest.json" in chargen("sample", tmp_path).err


def test_control_characters_do_not_reach_a_terminal(
    chargen: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pty = pytest.importorskip("pty", reason="needs a pseudo-terminal")
    path, out = tmp_path / "evil.txt", tmp_path / "evil"
    path.write_text("\x1b[31m" * 400, encoding="utf-8")
    small = ("--hidden-size", 16, "--batch-size", 2, "--steps", 30, "--quiet")
    assert chargen("train", path, "--out", out, *small).code == 0
    shown: dict[bool, bytes] = {}
    for raw in ([], ["--raw"]):
        master, slave = pty.openpty()
        with os.fdopen(slave, "w", encoding="utf-8") as terminal:
            monkeypatch.setattr(sys, "stdout", terminal)
            with pytest.raises(SystemExit):
                main(["sample", str(out), "--length", "30", *raw])
            shown[bool(raw)] = b""
            while not shown[bool(raw)].endswith(b"\r\n"):  # what the terminal makes of the end
                shown[bool(raw)] += os.read(master, 4096)
        os.close(master)
    assert b"\x1b" in shown[True]
    assert b"\x1b" not in shown[False]
    assert b"\\x1b" in shown[False]


def test_interactive_accepts_and_draws_again(chargen: Command, trained: Path) -> None:
    options = ("--interactive", "--prompt", "the quick", "--length", 10)
    result = chargen("sample", trained, *options, stdin="r\n\nq\n")
    assert result.code == 0, result.err
    assert result.out.startswith("the quick")
    assert len(result.out) == len("the quick") + 10 + 1


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_interactive_adds_where_the_model_writes(
    chargen: Command, tmp_path: Path, direction: str
) -> None:
    directory = save_lm(tmp_path / "lm", direction=direction)
    options = (directory, "--prompt", "the \a fox", "--length", 8, "--seed", 5)
    drawn = chargen("sample", *options)
    saved = tmp_path / "saved.txt"
    written = chargen("sample", *options, "--interactive", stdin=f"\nw {saved}\nt\n☃\nq\n")
    assert written.code == 0, written.err
    assert saved.read_text("utf-8") == drawn.out
    text = drawn.out.removesuffix("\n")
    assert written.out == ("☃" + text if direction == "backward" else text + "☃") + "\n"


@pytest.mark.parametrize(
    ("answers", "code", "reason"),
    [
        ("\nt\n", 0, "text:"),  # the end of stdin in place of the text
        ("\ne\nq\n", 0, "Editing failed"),
        ("\nw a\0b\nq\n", 0, "not saved: a\\x00b cannot be a path: embedded null byte"),
        ("\nt\n猫\n", 2, "猫"),
    ],
)
def test_interactive_loses_no_text(
    chargen: Command,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    answers: str,
    code: int,
    reason: str,
) -> None:
    for name in ("EDITOR", "VISUAL"):
        monkeypatch.setenv(name, str(tmp_path / "no editor"))
    last = ("--seed", 2**63 - 1)
    options = (save_lm(tmp_path / "lm"), "--prompt", "the ", "--length", 8, "--unknown", "error")
    drawn = chargen("sample", *options, *last).out
    result = chargen("sample", *options, *last, "--interactive", stdin=answers)
    assert result.code == code
    assert result.out == drawn.removesuffix("\n") + ("猫\n" if code else "\n")
    assert reason in result.err


def test_interactive_needs_stdin(chargen: Command, tmp_path: Path) -> None:
    directory = save_lm(tmp_path / "lm")
    for prompt in (("--prompt", "-"), ("--prompt-file", "-")):
        result = chargen("sample", directory, *prompt, "--interactive", stdin="the")
        assert (result.code, result.out) == (2, "")
        assert "--prompt TEXT" in result.err


def test_interactive_saves_bytes_of_the_prompt_that_are_no_text(
    chargen: Command, tmp_path: Path
) -> None:
    directory, saved = save_lm(tmp_path / "lm"), tmp_path / "saved.txt"
    options = (directory, "--prompt", "the \udcff", "--length", 8)
    result = chargen("sample", *options, "--interactive", stdin=f"w {saved}\nq\n")
    assert result.code == 0, result.err
    assert saved.read_bytes() == b"the \xff\n"


def test_interactive_saves_all_or_nothing(
    chargen: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    options = (save_lm(tmp_path / "lm"), "--prompt", "the ", "--length", 8)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        result = chargen("sample", *options, "--interactive", stdin=f"w {tmp_path}/new\nq\n")
    assert f"not saved: {tmp_path}/new cannot be written: No space left" in result.err
    surrogate = (options[0], "--prompt", "the \udbff", "--length", 8)
    result = chargen("sample", *surrogate, "--interactive", stdin=f"w {tmp_path}/new\nq\n")
    assert "not saved: 'utf-8' codec can't encode" in result.err
    (tmp_path / "old").write_text("mine")
    result = chargen("sample", *options, "--interactive", stdin=f"w {tmp_path}/old\nq\n")
    assert f"{tmp_path}/old exists: choose another file" in result.err
    assert (tmp_path / "old").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lm", "old"]
