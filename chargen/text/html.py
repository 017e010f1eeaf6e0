"""Convert HTML to plain text, for reviews and other pages that were saved with their tags.

Regular expressions are used because the standard library's parser reads a stray ``<`` differently
from one Python version to the next, and a corpus must not depend on the version.
"""

from __future__ import annotations

import html
import re

from chargen.text.decoding import normalize_newlines

_BREAKS = {
    *("address", "article", "blockquote", "br", "dd", "div", "dl", "dt", "footer", "header", "hr"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "li", "ol", "p", "pre", "section", "table", "tr", "ul"),
}
_HIDDEN = {"script", "style", "template"}
_MARKUP = re.compile("[<&]")
_TAG = re.compile(
    r"<(?P<end>/?)(?P<name>[a-zA-Z][a-zA-Z0-9:-]*)(?:\s[^<>]*|/\s*)?>"
    r"|<!--.*?-->|<![a-zA-Z][^<>]*>|<\?[a-zA-Z][^<>]*>",
    re.DOTALL,
)


def clean_html(text: str) -> str:
    """Return the text of an HTML fragment, with newlines for line breaks and block elements.

    Entities become characters; other tags, comments, scripts and styles are removed. Text without
    ``<`` and ``&`` is unchanged; a ``<`` that starts no tag, as in ``a < b`` or ``<3``, is kept.
    """
    if not _MARKUP.search(text):
        return text
    plain = normalize_newlines("".join(_pieces(text)))  # &#13; is a carriage return
    return re.sub(r"\n{3,}", "\n\n", plain).strip()


def _pieces(text: str) -> list[str]:
    pieces: list[str] = []
    begin = 0
    for tag in _TAG.finditer(text):
        if tag.start() < begin:  # inside a hidden element, such as a script
            continue
        pieces.append(_unescape(text[begin : tag.start()]))
        begin = tag.end()
        name = (tag["name"] or "").lower()
        if name in _BREAKS:
            # End tags count too: </p> ends a line, and </br> is often typed for <br>.
            pieces.append("\n")
        elif name in _HIDDEN and not tag["end"]:
            # Without an end tag, nothing is hidden.
            end = re.compile(f"</{name}[^<>]*>", re.IGNORECASE).search(text, begin)
            begin = end.end() if end else begin
    pieces.append(_unescape(text[begin:]))
    return pieces


def _unescape(text: str) -> str:
    try:
        return html.unescape(text)
    except ValueError:  # &# with thousands of digits, which Python refuses to convert
        return text
