"""HTML as plain text, for reviews and other pages that were saved with their tags.

Patterns instead of the standard library's parser: that one reads a stray ``<`` differently from
one Python version to the next, and a corpus must not depend on it.
"""

from __future__ import annotations

import html
import re

from chargen.text.decoding import newlines

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
    """The text of an HTML fragment: line breaks and blocks as newlines, entities as characters.

    Other tags, comments, scripts and styles vanish. Text without ``<`` and ``&`` comes back as it
    is; a ``<`` that starts no tag, as in ``a < b`` or ``<3``, stays.
    """
    if not _MARKUP.search(text):
        return text
    plain = newlines("".join(_pieces(text)))  # from &#13;
    return re.sub(r"\n{3,}", "\n\n", plain).strip()


def _pieces(text: str) -> list[str]:
    pieces: list[str] = []
    begin = 0
    for tag in _TAG.finditer(text):
        if tag.start() < begin:  # inside a script
            continue
        pieces.append(_characters(text[begin : tag.start()]))
        begin = tag.end()
        name = (tag["name"] or "").lower()
        if name in _BREAKS:
            # A paragraph's end is a newline too; a break has none, but </br> is often typed.
            pieces.append("\n")
        elif name in _HIDDEN and not tag["end"]:
            # One that has no end hides nothing.
            end = re.compile(f"</{name}[^<>]*>", re.IGNORECASE).search(text, begin)
            begin = end.end() if end else begin
    pieces.append(_characters(text[begin:]))
    return pieces


def _characters(text: str) -> str:
    try:
        return html.unescape(text)
    except ValueError:  # &# and thousands of digits, which Python refuses to read
        return text
