"""Curves, pictures and event files have the numbers of the log."""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from chargen.errors import CheckpointError, ConfigError
from chargen.plotting import heatmap, painting
from chargen.plotting.curves import loss_unit, read, smoothed
from chargen.training.loop import LOG_EVERY
from chargen.training.reporting import Log, log_to_tensorboard

ROWS = [
    {
        "step": 10 * i,
        "epoch": 0,
        "characters": 640 * i,
        "seconds": 0.5 * i,
        "loss": 4 / i,
        "learning_rate": 0.01 / i,
        "gradient_norm": 1.0 + i,
        "clipped_share": 0.5,
    }
    for i in range(1, 41)
]


def a_run(folder: Path, name: str = "run", rows: list[dict[str, float]] | None = None) -> Path:
    place = folder / name
    place.mkdir()
    lines = [*(ROWS if rows is None else rows), {"step": 200, "valid_nats": 1.5, "seconds": 10.0}]
    text = "\n".join(map(json.dumps, sorted(lines, key=lambda row: row["step"])))
    (place / "metrics.jsonl").write_text(text + "\n", "utf-8")
    (place / "config.json").write_text(json.dumps({"train": {"clip": 1.0}}))
    return place


def test_the_numbers_are_those_of_the_log(tmp_path: Path) -> None:
    run = read(a_run(tmp_path))
    assert run.name == "run"
    np.testing.assert_allclose(run.rows["loss"], [row["loss"] for row in ROWS])
    np.testing.assert_allclose(run.axis_positions("characters", run.valid_steps), [640 * 20])
    np.testing.assert_allclose(
        run.axis_positions("seconds", np.array([5.0, 200.0, 800.0])), [0.25, 10.0, 40.0]
    )
    assert (run.valid.tolist(), run.clip, run.symbol) == ([1.5], 1.0, "character")


def test_the_last_step_may_have_no_row_of_training(tmp_path: Path) -> None:
    assert read(a_run(tmp_path, rows=[*ROWS, {"step": 405, "seconds": 21.0}])).last_step == 405


def test_smoothing() -> None:
    values = np.array([1.0, math.nan, 1.0, 1.0])
    found = smoothed(values, 0.9)
    assert math.isnan(found[1])
    np.testing.assert_allclose(found[[0, 2, 3]], 1.0)
    np.testing.assert_allclose(smoothed(np.array([3.0, 1.0, 2.0]), 0.0), [3.0, 1.0, 2.0])
    for strength in (-0.1, 1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match="--smooth must be at least 0 and below 1"):
            smoothed(values, strength)


def test_runs_that_are_drawn_together_have_one_unit(tmp_path: Path) -> None:
    text = read(a_run(tmp_path, "text"))
    labels = read(a_run(tmp_path, "labels", [{**row, "train_accuracy": 0.5} for row in ROWS]))
    assert loss_unit([text]) == (math.log(2), "bits per character")
    assert loss_unit([text], nats=True) == loss_unit([labels]) == (1.0, "nats")
    assert loss_unit([text, labels]) == (1.0, "nats")
    for level in ("byte", "raw"):
        (a_run(tmp_path, level) / "vocabulary.json").write_text(json.dumps({"level": level}))
    of_bytes = [read(tmp_path / level) for level in ("byte", "raw")]
    assert loss_unit(of_bytes) == (math.log(2), "bits per byte")
    assert loss_unit([text, *of_bytes]) == (math.log(2), "bits per symbol")


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no metrics\.jsonl"):
        read(tmp_path)
    place = a_run(tmp_path)
    with (place / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "lo')
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl, line 42, is not a row"):
        read(place)
    (place / "metrics.jsonl").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl, line 1, is not a row"):
        read(place)
    with pytest.raises(CheckpointError, match="one every ten steps.*nothing to draw"):
        read(a_run(tmp_path, "empty", []))  # of a run of nine steps
    assert LOG_EVERY == 10


def test_a_picture_names_its_runs_and_units(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra chargen[plot]")
    from chargen.plotting.figure import picture

    runs = [read(a_run(tmp_path, name)) for name in ("one", "<two> & $x$")]
    svg = picture(runs, "svg", title="a <title>").decode()
    for text in (
        "one",
        "&lt;two&gt; &amp; $x$",
        "bits per character",
        "characters read",
        "seconds",
    ):
        assert text in svg
    assert "<two>" not in svg
    assert picture(runs, "svg") == picture(runs, "svg")
    assert "bytes read" in picture([replace(runs[0], symbol="byte")], "svg").decode()
    assert picture(runs[:1], "png", axis="steps", nats=True).startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match=r"not \.gif"):
        picture(runs, "gif")


def test_in_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("plotille", reason="needs the extra chargen[plot]")
    from chargen.plotting.terminal import terminal_plot

    runs = [read(a_run(tmp_path, name)) for name in ("one", "two")]
    text = terminal_plot(runs, width=70, colour=False)
    assert "\x1b" not in text
    assert "one" in text
    assert "two" in text
    assert "bits per character" in text
    for axis in ("characters", "seconds", "steps", "epochs"):
        text = terminal_plot(runs, width=70, axis=axis, colour=False)
        assert max(map(len, text.splitlines())) <= 70
    monkeypatch.setenv("FORCE_COLOR", "1")  # the test's output is no terminal
    assert "\x1b" in terminal_plot(runs, width=70)


def test_runs_may_have_any_names(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra chargen[plot]")
    pytest.importorskip("plotille", reason="needs the extra chargen[plot]")
    from chargen.plotting.figure import picture
    from chargen.plotting.terminal import terminal_plot

    run = read(a_run(tmp_path))
    names = ["run", "a\x1b[31m\nb", "f\udcff"]
    runs = [replace(run, name=name) for name in names]
    svg = ElementTree.fromstring(picture(runs, "svg", title="\x01 \udcff"))
    drawn = "".join(svg.itertext())
    shown = terminal_plot(runs, width=70, colour=False)
    for name in ("run", "a\\x1b[31m\\nb", "f\\udcff"):
        assert name in drawn
        assert name in shown


@pytest.mark.parametrize(
    "rows",
    [
        [{"step": 10, "loss": 1.0}],
        [{"step": 10, "loss": None, "gradient_norm": None}, {"step": 20, "loss": 10**400}],
        [{"step": 10, "loss": 1.0, "gradient_norm": 0.0}, {"step": 20, "valid_nats": math.nan}],
        [{"step": 10, "loss": math.inf, "seconds": 10**400}, {"step": 20, "valid_nats": math.inf}],
    ],
)
def test_figures_that_are_none_are_left_out(tmp_path: Path, rows: list[dict[str, float]]) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra chargen[plot]")
    pytest.importorskip("plotille", reason="needs the extra chargen[plot]")
    from chargen.plotting.figure import picture
    from chargen.plotting.terminal import terminal_plot

    place = a_run(tmp_path, rows=rows)
    (place / "config.json").write_text(f'{{"train": {{"clip": 1{"0" * 400}}}}}')
    run = read(place)
    assert (run.valid.tolist(), run.clip) == ([1.5], None)
    assert picture([run]).startswith(b"\x89PNG")
    assert "o: validation" in terminal_plot([run], width=70)


def test_event_files_have_the_rows(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra chargen[tensorboard]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first, rows in ((0, ROWS), (201, [{**row, "loss": 9.0} for row in ROWS[20:]])):
        log = Log()
        with log_to_tensorboard(log, tmp_path, Path("events"), first):
            for row in rows:
                log.add(row)
    found = EventAccumulator(str(tmp_path / "events")).Reload()
    losses = {event.step: event.value for event in found.Scalars("train/loss")}
    assert losses == pytest.approx({r["step"]: 9.0 if r["step"] > 200 else r["loss"] for r in ROWS})


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux alone")
def test_event_files_are_refused_where_a_name_is_no_text(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra chargen[tensorboard]")
    folders = ((tmp_path, Path("caf\udce9")), (tmp_path / "caf\udce9", Path("run")))
    for folder, run in folders:
        with (
            pytest.raises(ConfigError, match=r"--tensorboard: .*caf.*: it is not UTF-8$"),
            log_to_tensorboard(Log(), folder, run),
        ):
            pass


def test_a_share_of_few_texts_has_a_wide_interval() -> None:
    stats = pytest.importorskip("scipy.stats", reason="needs the extra chargen[sentiment]")
    from chargen.plotting.classification import wilson_interval

    for count in (1, 2, 30, 1000):
        for correct in {0, 1, count // 2, count}:
            ends = wilson_interval(np.array([correct / count]), np.array([count]))
            expected = stats.binomtest(correct, count).proportion_ci(method="wilson")
            np.testing.assert_allclose(np.ravel(ends), expected, atol=1e-4)


def test_a_text_is_cut_where_characters_are_left_out() -> None:
    for text, lines, cut in (
        ("one\ntwo\n\n", 2, False),
        ("one\ntwo\nthree", 2, True),
        ("word " * 40, 2, True),
        ("one", 1, False),
        ("\n\n", 1, False),
    ):
        painted = painting.PaintedText(text, [0] * len(text), 1, 2)
        assert (painted.lines, bool(painted.cut_note)) == (lines, cut)


def test_a_character_is_painted_as_wide_as_it_is() -> None:
    pytest.importorskip("matplotlib", reason="needs the extra chargen[plot]")
    from matplotlib.figure import Figure

    text, widths = "a你e\u0301\x1b\t!", (1, 2, 1, 0, 4, 1, 1)
    steps = list(range(len(text)))
    colours = {step: (step / 10, 0.5, 0.5) for step in steps}
    axes = Figure().subplots()
    painting.PaintedText(text, steps, 1, 1).draw(axes, colours)
    row = np.asarray(axes.images[0].get_array())[0]
    expected = [colours[s] for s, width in zip(steps, widths, strict=True) for _ in range(width)]
    np.testing.assert_allclose(row[: sum(widths)], expected)
    assert (row[sum(widths) :] == 1).all()
    letters = [(shown.get_text(), shown.get_position()[0]) for shown in axes.texts]
    assert letters == [("a", 0.5), ("你", 2), ("e\u0301", 3.5), ("\ufffd", 6), ("!", 9.5)]


def test_surprise_is_painted_and_escaped(tmp_path: Path) -> None:
    text, bits = "<b>a\u202e\n\u4f60", [0.5, 1.5, 3.0, 5.0, 7.0, 12.0, 0.1]
    page = heatmap.page(text, bits, "<i>")
    assert "<b>" not in page
    assert "<i>" not in page
    assert "\u202e" not in page
    assert '<span class="s5">' in page
    # HTML ignores a newline that follows <pre>, and the text has its own direction.
    assert re.findall("<pre([^>]*)>\n\n<", heatmap.page("\n\u05d0", [0.1, 3.0], "")) == [
        ' lang="und" dir="auto"'
    ]
    pytest.importorskip("matplotlib", reason="needs the extra chargen[plot]")
    assert heatmap.picture(text, bits, "$x$").startswith(b"\x89PNG")
