"""The style of pictures: fonts for many scripts, and colours that everyone can distinguish."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chargen.errors import MissingExtraError

# Okabe & Ito (2008): distinct with every kind of colour vision; dashes are distinct in print.
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
"""Settings of matplotlib for line plots, besides the fonts."""

FORMATS = ("png", "svg", "pdf")

# No dates or versions, so that the same run gives the same picture.
_METADATA = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}

PROPORTIONAL = ("DejaVu Sans",)
MONOSPACED = ("DejaVu Sans Mono", "Noto Sans Mono CJK JP")
_OTHER_SCRIPTS = (
    "Noto Sans CJK JP", "Noto Sans", "Noto Sans Arabic", "Noto Sans Hebrew",
    "Noto Sans Devanagari", "Noto Emoji", "Unifont",
)  # fmt: skip


@contextmanager
def drawing(
    feature: str, style: Mapping[str, Any] | None = None, fonts: tuple[str, ...] = PROPORTIONAL
) -> Iterator[Any]:
    """Yield matplotlib's class of figures, set up with those of our fonts that are installed.

    `feature` is the option or command that draws, for a `MissingExtraError` without matplotlib;
    `style` holds settings of matplotlib, and `fonts` are the fonts to try first.
    """
    try:
        import matplotlib
        from matplotlib import font_manager
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(feature, "plot") from error
    installed = {font.name for font in font_manager.fontManager.ttflist}
    family = [name for name in (*fonts, *_OTHER_SCRIPTS) if name in installed]
    logger = logging.getLogger("matplotlib")
    level = logger.level
    # Text between dollar signs is not mathematics here.
    plain = {"font.family": family, "text.parse_math": False, "axes.titlelocation": "left"}
    settings: Any = {**plain, **(style or {})}
    with warnings.catch_warnings(), matplotlib.rc_context(settings):
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        logger.setLevel(logging.ERROR)
        try:
            yield Figure
        finally:
            logger.setLevel(level)


def image_format(path: str | Path) -> str:
    """Return the one of `FORMATS` that a file name ends in, or an empty string."""
    form = Path(path).suffix.lower().removeprefix(".")
    return form if form in FORMATS else ""


def image(figure: Any, form: str, dpi: int = 120, **options: Any) -> bytes:
    """Return a figure in one of `FORMATS`; equal figures give equal bytes.

    `options` are those of matplotlib's ``savefig``.
    """
    memory = io.BytesIO()
    figure.savefig(memory, format=form, dpi=dpi, metadata=_METADATA[form], **options)
    return memory.getvalue()


def png(figure: Any) -> bytes:
    """Return a figure as PNG, cropped to what is drawn."""
    return image(figure, "png", dpi=150, bbox_inches="tight", pad_inches=0.15)
