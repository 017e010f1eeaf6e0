"""The page in Gradio: its layout, and the action of each button.

The work is done by `models`, `jobs` and `views`; errors become sentences on the page.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import gradio as gr
import pandas as pd

from chargen.errors import ChargenError, ConfigError
from chargen.text.config import AUTO_ENCODING, CorpusConfig
from chargen.web import views
from chargen.web.defaults import (
    DRAWING,
    MINUTES,
    MOST_CHARACTERS,
    MOST_MINUTES,
    MOST_TOP_K,
    REFRESH_SECONDS,
    SEED,
)
from chargen.web.jobs import Job, JobRunner
from chargen.web.models import Models

REPORTED_ERRORS = (ChargenError, OSError, MemoryError)
"""Errors that become a sentence on the page."""

TITLE = "chargen"


def build(models: Models, runner: JobRunner) -> gr.Blocks:
    """Build the page, which `server` launches."""
    page: gr.Blocks
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 24 * 3600)) as page:
        gr.Markdown(f"# {TITLE}\nWrite with a model, ask one for a verdict, or train your own.")
        with gr.Tabs() as tabs:
            with gr.Tab("Write", id="write") as write_tab:
                writer = _write_tab(models)
            with gr.Tab("Sentiment", id="sentiment") as sentiment_tab:
                judge = _sentiment_tab(models)
            with gr.Tab("Train", id="train"):
                _train_tab(runner, models, tabs, writer)

        # Also offer models that were trained since the page was built.
        for tab, dropdown, names in (
            (write_tab, writer, models.language_models),
            (sentiment_tab, judge, models.classifiers),
        ):
            gr.on([page.load, tab.select], _refreshed(names), dropdown, dropdown, **_QUIET)
    return page


_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_AT_ONCE: dict[str, Any] = {**_QUIET, "queue": False}


def _refreshed(names: Callable[[], list[str]]) -> Callable[[str | None], Any]:
    return lambda chosen: _choices(names(), chosen)


def _choices(names: list[str], chosen: str | None = None, **options: Any) -> gr.Dropdown:
    value = chosen if chosen in names else next(iter(names), None)
    return gr.Dropdown(choices=names, value=value, **options)


# ---------------------------------------------------------------- Write


def _write_tab(models: Models) -> gr.Dropdown:
    with gr.Row():
        with gr.Column(scale=2):
            model = _choices(models.language_models(), label="Model")
            prompt = gr.Textbox(label="Prompt", lines=3, max_lines=8, placeholder="It was")
            with gr.Row():
                write = gr.Button("Write", variant="primary", min_width=80)
                another = gr.Button("Another", min_width=80)
                stop = gr.Button("Stop", variant="stop", min_width=80)
            length = gr.Slider(
                50, MOST_CHARACTERS, DRAWING.max_chars, step=50, label="Length in characters"
            )
            temperature = gr.Slider(
                0,
                2,
                DRAWING.temperature,
                step=0.05,
                label="Temperature",
                info="Low is safe, high takes risks.",
            )
            with gr.Accordion("More", open=False):
                top_k = gr.Slider(0, MOST_TOP_K, DRAWING.top_k or 0, step=1, label="Top-k (0: off)")
                top_p = gr.Slider(0.05, 1, DRAWING.top_p or 1, step=0.05, label="Top-p (1: off)")
                seed = gr.Number(SEED, label="Seed", precision=0, minimum=0, maximum=2**53)
            painted = gr.Checkbox(label="Show how surprising each character was")
        with gr.Column(scale=3):
            text = gr.HTML(views.written("", "", (), False), elem_id="written", container=True)
            note = gr.HTML(elem_id="write-note")

    run = partial(_stream_text, models)
    inputs = [model, prompt, length, temperature, top_k, top_p, seed, painted]
    begun = gr.on([write.click, prompt.submit], run, inputs, [text, note], **_QUIET)
    reseeded = another.click(
        lambda value: 1 + (SEED if value is None else int(value)), seed, seed, **_QUIET
    )
    again = reseeded.then(run, inputs, [text, note], **_QUIET)
    stop.click(None, cancels=[begun, again], api_visibility="private")
    return model


def _stream_text(
    models: Models,
    name: str | None,
    prompt: str,
    length: int,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: float | None,
    painted: bool,
) -> Iterator[tuple[Any, str]]:
    """Yield the text as it grows, with a note about it."""
    try:
        if not 0 < length <= MOST_CHARACTERS:
            raise ConfigError(f"the length must be at most {MOST_CHARACTERS:,} characters")
        lm = models.language_model(name)
        if lm.raw:  # typed text is UTF-8, as for `chargen sample`
            prompt = prompt.encode("utf-8", "replace").decode("latin-1")
        options: dict[str, Any] = {
            "max_chars": int(length),
            "temperature": temperature,
            "top_k": int(top_k) or None,
            "top_p": top_p if top_p < 1 else None,
            "seed": SEED if seed is None else int(seed),
        }
        unknown = lm.encode_prompt(prompt, DRAWING)[1]
        started = time.monotonic()
        yield views.written(prompt, "", (), painted, lm.backward), ""
        for sample in lm.watch(prompt, **options):
            html = views.written(prompt, sample.text, sample.log_probs, painted, lm.backward)
            note = views.paragraph(_written_note(sample, time.monotonic() - started))
            yield html, note + views.unknown_note("model", unknown)
    except REPORTED_ERRORS as error:
        yield gr.skip(), views.problem(error)


def _written_note(sample: Any, seconds: float) -> str:
    count = len(sample.text)
    if not count:
        return "the model ended the text at once" if sample.ended == "end" else ""
    bits = 0.0 - sum(sample.log_probs) / count / math.log(2)
    words = f"{count:,} characters, {bits:.2f} bits each"
    ends = {"end": "; the model ended the text", "length": "", "stop": "", "": " so far"}
    return f"{words}{ends[sample.ended]}" + (f", in {seconds:.1f} s" if sample.ended else "")


# ---------------------------------------------------------------- Sentiment


def _sentiment_tab(models: Models) -> gr.Dropdown:
    with gr.Row():
        with gr.Column(scale=2):
            model = _choices(models.classifiers(), label="Model")
            text = gr.Textbox(
                label="Text", lines=6, max_lines=16, placeholder="A quiet, wonderful film."
            )
            ask = gr.Button("Judge", variant="primary")
        with gr.Column(scale=3):
            verdict = gr.HTML(elem_id="verdict", container=True, min_height=200)

    def run(name: str | None, text: str) -> str:
        try:
            return views.verdict(models.classifier(name), text)
        except REPORTED_ERRORS as error:
            return views.problem(error)

    ask.click(run, [model, text], verdict, api_visibility="private")
    return model


# ---------------------------------------------------------------- Train


def _train_tab(runner: JobRunner, models: Models, tabs: gr.Tabs, writer: gr.Dropdown) -> None:
    with gr.Row():
        with gr.Column(scale=2):
            text = gr.Textbox(label="Text", lines=6, max_lines=12, placeholder="Paste a text here")
            files = gr.File(label="or choose files", file_count="multiple", height=120)
            lines = gr.Checkbox(label="Each line is a text of its own (names, verses)")
            name = gr.Textbox(label="Name of the model", max_lines=1, placeholder="mybook")
            minutes = gr.Number(
                MINUTES,
                label="Minutes",
                minimum=0.05,
                maximum=MOST_MINUTES,
                step=1,
            )
            with gr.Row():
                start = gr.Button("Train", variant="primary", min_width=80)
                cancel = gr.Button("Cancel", variant="stop", min_width=80)
            problem = gr.HTML(elem_id="train-problem")
        with gr.Column(scale=3):
            state = gr.HTML(views.state(runner.job), elem_id="train-state")
            gr.HTML(views.paragraph("Bits per character: training (blue) and validation (orange)"))
            # With its own label or legend, Gradio cuts off the axes.
            curve = gr.LinePlot(
                curve_frame(runner.job),
                x="characters read",
                y="bits per character",
                y_title=" ",
                color="text",
                height=340,
                color_map={"training": "#4c78a8", "validation": "#f58518"},
                colors_in_legend=[],
                show_label=False,
            )
            sample = gr.HTML(elem_id="train-sample")
            use = gr.Button("Write with it", visible=False)

    def look(seen: tuple[Any, ...]) -> tuple[Any, ...]:
        job = runner.job
        current = (job and id(job), job and job.num_messages)
        if seen == current:
            return tuple(gr.skip() for _ in range(5))
        ready = gr.Button(visible=job is not None and job.state in ("finished", "stopped"))
        return current, views.state(job), curve_frame(job), views.sample(job), ready

    # Each page polls, so that it also shows runs started elsewhere and recovers after a sleep.
    last = gr.State(())
    gr.Timer(REFRESH_SECONDS).tick(look, last, [last, state, curve, sample, use], **_AT_ONCE)
    start.click(partial(_start_run, runner), [text, files, lines, name, minutes], problem, **_QUIET)
    cancel.click(runner.cancel, **_AT_ONCE)

    def write_with_it() -> tuple[Any, Any]:
        job = runner.job
        return gr.Tabs(selected="write"), _choices(
            models.language_models(), job.name if job else None
        )

    use.click(write_with_it, None, [tabs, writer], **_QUIET)


def _start_run(
    runner: JobRunner,
    text: str,
    files: Sequence[str] | None,
    lines: bool,
    name: str,
    minutes: float | None,
) -> str:
    """Start a run; return an error as HTML, or an empty string."""
    try:
        if files and text.strip():
            raise ConfigError("there is a pasted text and there are files: remove one of them")
        options: dict[str, Any] = {"documents": "lines"} if lines else {}
        if not minutes or not 0 < minutes <= MOST_MINUTES:
            raise ConfigError("the minutes must be above 0 and at most a day")
        runner.start(name, _read_files(files) if files else text, minutes=minutes, **options)
    except REPORTED_ERRORS as error:
        return views.problem(error)
    return ""


def _read_files(files: Sequence[str]) -> str:
    """Read the text of uploaded files, of any kind and encoding that `chargen train` reads."""
    from chargen.text import sources

    return sources.read_all(list(files), CorpusConfig(encoding=AUTO_ENCODING))


def curve_frame(job: Job | None) -> pd.DataFrame:
    """Return the points of the curve; Gradio takes types and colours from the first frame."""
    lines = {"training": job.training, "validation": job.validation} if job else {}
    rows = [
        (float(characters), bits, name)
        for name in ("training", "validation")
        for characters, bits in [(0, math.nan), *lines.get(name, ())]
    ]
    return pd.DataFrame(rows, columns=["characters read", "bits per character", "text"])
