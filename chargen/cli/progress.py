"""Progress of a run on stderr: a bar on a terminal, occasional lines in a log file."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Mapping
from typing import Any

from chargen.cli.terminal import say, visible
from chargen.training.reporting import Reporter

LINE_SECONDS = 10.0
"""Seconds between two lines if stderr is not a terminal."""

STAGE_SECONDS = 2.0
"""Seconds between two reports on a preparation; a shorter preparation is not reported."""


class TerminalReporter(Reporter):
    """Reporter that shows loss, bits per symbol, symbols per second, time left, samples."""

    def __init__(self) -> None:
        self.on_terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._is_line_open = False  # the last stage was shown, but not to its end
        self._reported_at = time.monotonic()
        self._started: tuple[float, float, int] | None = None
        self._loss = 0.0
        self._accuracy = 0.0

    def note(self, text: str) -> None:
        self._write(f"· {text}")

    def stage(self, name: str, done: int, total: int) -> None:
        now = time.monotonic()
        is_end_of_line = self._is_line_open and done >= total
        if not total or (now - self._reported_at < STAGE_SECONDS and not is_end_of_line):
            return
        self._reported_at = now
        share = f"{done / total:.0%}"
        if self.on_terminal:
            self._is_line_open = done < total
            end = "" if self._is_line_open else "\n"
            with contextlib.suppress(OSError):  # see `say`
                print(f"\r{name}: {share}  ", end=end, file=sys.stderr, flush=True)
        else:
            self._write(f"{name}: {share}")

    def step(self, progress: float, metrics: Mapping[str, Any]) -> None:
        now = time.monotonic()
        characters = metrics["characters"]
        if self._started is None:
            self._started = (now, progress, characters)
            self._loss = metrics["loss"]
            self._accuracy = metrics.get("train_accuracy", 0.0)
            if self.on_terminal:
                from tqdm import tqdm

                self._bar = tqdm(
                    total=1.0, initial=progress, bar_format="{percentage:3.0f}%|{bar}| {postfix}"
                )
        began, first_progress, first_characters = self._started
        if math.isfinite(metrics["loss"]):
            before = self._loss if math.isfinite(self._loss) else metrics["loss"]
            self._loss = before + 0.05 * (metrics["loss"] - before)
        if "train_accuracy" in metrics:
            self._accuracy += 0.05 * (metrics["train_accuracy"] - self._accuracy)
        wait = 0.2 if self.on_terminal else LINE_SECONDS
        if now - self._reported_at < wait or now <= began or progress <= first_progress:
            return
        self._reported_at = now
        rate = (characters - first_characters) / (now - began)
        left = (now - began) * (1 - progress) / (progress - first_progress)
        words = f"{self._figures(metrics)}, {rate:,.0f} symbols/s, {_clock(left)} left"
        if self._bar is not None:
            self._bar.n = min(1.0, progress)
            self._bar.set_postfix_str(words, refresh=True)
        else:
            self._write(f"step {metrics['step']}, {progress:.0%}: {words}")

    def _figures(self, metrics: Mapping[str, Any]) -> str:
        if "train_accuracy" not in metrics:
            return f"loss {self._loss:.3f} nats, {self._loss / math.log(2):.3f} bits per symbol"
        words = f"loss {self._loss:.3f}, training accuracy {self._accuracy:.3f}"
        if metrics["lm_loss"] is not None:
            words += f", language model {metrics['lm_loss'] / math.log(2):.2f} bits per symbol"
        return words

    def evaluated(self, metrics: Mapping[str, Any], sample: str | None) -> None:
        if "valid_nats" in metrics:
            self._write(
                f"step {metrics['step']}: validation {metrics['valid_nats']:.4f} nats, "
                f"{metrics['valid_bits']:.4f} bits per symbol"
            )
        if "valid_accuracy" in metrics:
            self._write(
                f"step {metrics['step']}: validation accuracy {metrics['valid_accuracy']:.4f}, "
                f"macro-F1 {metrics['valid_macro_f1']:.4f}, "
                f"log loss {metrics['valid_log_loss']:.4f}"
            )
        if sample:
            shown = sample.strip("\n")
            self._write("\n".join("  | " + line for line in shown.splitlines()))

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._started = None  # another training stage may follow

    def _write(self, text: str) -> None:
        if self._bar is None:
            say(text)
            return
        with contextlib.suppress(OSError):
            self._bar.write(visible(text), file=sys.stderr)


def reporter_for(quiet: bool) -> Reporter:
    """Return a reporter that shows a run on stderr, or a silent one if `quiet`."""
    return Reporter() if quiet else TerminalReporter()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
