"""How this project's pictures look: fonts for many scripts, colours for every eye."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chargen.errors import MissingExtraError

# Okabe & Ito (2008): told apart by every kind of eye; the dashes tell them apart in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))

LINES: Mapping[str, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.9",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "chargen",
}
"""For pictures of lines, besides the fonts."""

FORMATS = ("png", "svg", "pdf")

# Neither dates nor versions: the same picture for the same run.
_METADATA = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}

PROPORTIONAL = ("DejaVu Sans",)
MONOSPACED = ("DejaVu Sans Mono", "Noto Sans Mono CJK JP")
_OTHER_SCRIPTS = (
    "Noto Sans CJK JP", "Noto Sans", "Noto Sans Arabic", "Noto Sans Hebrew",
    "Noto Sans Devanagari", "Noto Emoji", "Unifont",
)  # fmt: skip


@contextmanager
def drawing(
    what: str, style: Mapping[str, Any] | None = None, fonts: tuple[str, ...] = PROPORTIONAL
) -> Iterator[Any]:
    """matplotlib's class of figures, with letters from whichever of the usual fonts are installed.

    `what` is the option or command that draws, for a `MissingExtraError` without matplotlib;
    `style` are settings of matplotlib, and `fonts` the ones to try first.
    """
    try:
        import matplotlib
        from matplotlib import font_manager
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(what, "plot") from error
    installed = {font.name for font in font_manager.fontManager.ttflist}
    family = [name for name in (*fonts, *_OTHER_SCRIPTS) if name in installed]
    logger = logging.getLogger("matplotlib")
    level = logger.level
    # What people write is no mathematics, whatever it has between dollar signs.
    plain = {"font.family": family, "text.parse_math": False, "axes.titlelocation": "left"}
    settings: Any = {**plain, **(style or {})}
    with warnings.catch_warnings(), matplotlib.rc_context(settings):
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        logger.setLevel(logging.ERROR)
        try:
            yield Figure
        finally:
            logger.setLevel(level)


def form_of(path: str | Path) -> str:
    """The one of `FORMATS` that the name of a file ends in, "" where it is none of them."""
    form = Path(path).suffix.lower().removeprefix(".")
    return form if form in FORMATS else ""


def image(figure: Any, form: str) -> bytes:
    """A figure in one of `FORMATS`, the same bytes each time."""
    memory = io.BytesIO()
    figure.savefig(memory, format=form, dpi=120, metadata=_METADATA[form])
    return memory.getvalue()


def png(figure: Any) -> bytes:
    """A figure of a text as PNG, cut to what is drawn."""
    memory = io.BytesIO()
    figure.savefig(memory, format="png", dpi=150, bbox_inches="tight", pad_inches=0.15)
    return memory.getvalue()
