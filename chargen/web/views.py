"""Render what the page shows as HTML, escaping all text by people and models."""

from __future__ import annotations

import math
from collections.abc import Sequence

from chargen.errors import ConfigError, spelled
from chargen.plotting import explanation as drawn
from chargen.plotting import heatmap
from chargen.plotting.painting import to_html
from chargen.sentiment import explain
from chargen.sentiment.classifier import Classifier
from chargen.web.jobs import Job

SHOWN_UNKNOWN_CHARACTERS = 20
SHOWN_PROMPT_CHARACTERS = 2000
"""Most characters of a prompt that are shown: those next to the written text."""

MAX_CLASSIFIED_CHARACTERS = 100_000
"""Most characters of a text that are read for a verdict, which takes a few seconds."""

STYLE = (
    """
.written { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.8; min-height: 12rem;
  font-family: ui-monospace, monospace; font-size: .95rem; }
.written .prompt { color: var(--body-text-color-subdued); }
.problem { color: var(--error-text-color, #b91c1c); font-weight: 600; }
.key span { padding: .1em .5em; white-space: nowrap; }
.bar { height: .5rem; border-radius: .25rem; background: var(--border-color-primary); }
.bar i { display: block; height: 100%; border-radius: .25rem; background: var(--color-accent); }
.verdict { --ink: var(--body-text-color); --faint: var(--body-text-color-subdued);
  --line: var(--border-color-primary); --card: var(--background-fill-secondary);
  overflow-wrap: anywhere;
"""
    + drawn.style()
    + """table, thead, tbody, tr, th, td { border: 0 solid var(--line) !important; }
th, td { border-bottom-width: 1px !important; padding: .25rem .5rem .25rem 0 !important; }
.scale span { border-color: var(--line) !important; }
}
"""
    + heatmap.style()
)
"""CSS for all views, with Gradio's colours, which follow its light and dark modes."""


def problem(error: Exception | str) -> str:
    words = "there is not enough memory" if isinstance(error, MemoryError) else str(error)
    return f'<p class="problem" role="alert">{to_html(words)}</p>'


def paragraph(text: str) -> str:
    return f"<p>{to_html(text)}</p>" if text else ""


def unknown_note(reader: str, characters: str) -> str:
    """Render which characters, if any, a model or an encoder has never seen."""
    more = " ..." if len(characters) > SHOWN_UNKNOWN_CHARACTERS else ""
    listed = spelled(characters[:SHOWN_UNKNOWN_CHARACTERS]) + more
    words = f"the {reader} has never seen these characters (read as unknown): {listed}"
    return paragraph(words) if characters else ""


def written(
    prompt: str, text: str, log_probs: Sequence[float], painted: bool, backward: bool = False
) -> str:
    """Render a text beside its prompt, with characters coloured by surprise if `painted`."""
    cut = prompt[:SHOWN_PROMPT_CHARACTERS] if backward else prompt[-SHOWN_PROMPT_CHARACTERS:]
    gap = "…" if len(cut) < len(prompt) else ""
    before = to_html(cut + gap if backward else gap + cut)
    bits = [-value / math.log(2) for value in log_probs]
    # The last character has no log-probability if the model ended in the middle of it.
    bits += [0.0] * (len(text) - len(bits))
    body = heatmap.spans(text, bits) if painted else to_html(text)
    pieces = [f'<span class="prompt">{before}</span>', body]
    key = f'<p class="key">bits: {heatmap.legend()}</p>' if painted else ""
    joined = "".join(reversed(pieces) if backward else pieces)
    return f'{key}<div class="written" dir="auto">{joined}</div>'


def verdict(classifier: Classifier, text: str) -> str:
    """Render a verdict, its probabilities, and how it changed along the text.

    Of a text longer than `MAX_CLASSIFIED_CHARACTERS` characters, only the beginning is judged, and
    a note says so. Raises `ConfigError` if there is no text.
    """
    cleaned = classifier.cleaned(text).lstrip()
    if not cleaned:
        raise ConfigError("there is no text: paste one")
    unknown = unknown_note("encoder", classifier.unknown_characters(cleaned, cleaned=True))
    try:
        explanation = explain.explain(classifier, text)
    except ConfigError as error:  # the text is too long to be explained
        beginning = cleaned[:MAX_CLASSIFIED_CHARACTERS]
        shares = classifier.predict_proba([beginning], cleaned=True)[0].tolist()
        rows = dict(zip(classifier.labels, shares, strict=True))
        words = f"No trace: {error}."
        if len(cleaned) > MAX_CLASSIFIED_CHARACTERS:
            words += f" The verdict is that on the first {MAX_CLASSIFIED_CHARACTERS:,} characters."
        note = f'<p class="note">{to_html(words)}</p>'
        return f'<div class="verdict">{drawn.verdict(rows)}{note}{unknown}</div>'
    if explain.is_quick(explanation):
        explanation = explain.leave_out(classifier, explanation)
    return f'<div class="verdict">{drawn.sections(explanation)}{unknown}</div>'


_STATES = {
    "preparing": "is being prepared",
    "training": "is being trained",
    "finished": "is ready",
    "stopped": "was stopped",
    "failed": "was not trained",
}


def state(job: Job | None) -> str:
    if job is None:
        return "<p>Nothing has been trained here yet.</p>"
    heading = f"<p><strong>{to_html(job.name)}</strong> {_STATES[job.state]}"
    heading += f": {to_html(job.message)}</p>" if job.message else "</p>"
    bar = f'<div class="bar"><i style="width:{min(1.0, job.progress):.1%}"></i></div>'
    notes = "".join(f"<li>{to_html(note)}</li>" for note in job.notes)
    details = f"<details><summary>What was chosen</summary><ul>{notes}</ul></details>"
    role = ' class="problem" role="alert"' if job.state == "failed" else ""
    return f"<div{role}>{heading}</div>{bar}{details if notes else ''}"


def sample(job: Job | None) -> str:
    """Render the latest sample of a run."""
    text = job.sample if job else ""
    return f'<div class="written" dir="auto">{to_html(text)}</div>' if text else ""
