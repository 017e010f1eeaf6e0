"""Labelled sentences from a small grammar."""

from __future__ import annotations

import random

from chargen.sentiment.examples import Examples

_WORDS = {
    "good": ("wonderful", "moving", "clever", "a delight", "great fun", "charming"),
    "bad": ("awful", "dull", "a bore", "clumsy", "tiresome", "a waste of time"),
    "plain": ("two hours long", "in black and white", "set in Rome", "a sequel", "in French"),
}
_THINGS = ("film", "story", "plot", "ending", "music", "cast", "first act", "script")
_FRAMES = ("The {} was {}.", "I found the {} {}!", "That {}? It is {}.", "the {} seemed {}")


def reviews(count: int, seed: int = 0, labels: tuple[str, ...] = ("bad", "good")) -> Examples:
    """Sentences of which the label is the kind of their one adjective, after up to four others."""
    draw = random.Random(seed)
    texts = []
    for index in range(count):
        adjective = draw.choice(_WORDS[labels[index % len(labels)]])
        sentence = draw.choice(_FRAMES).format(draw.choice(_THINGS), adjective)
        before = ["We saw it on a Monday."] * draw.randrange(3)
        after = ["I went with a friend."] * draw.randrange(3)
        texts.append(" ".join([*before, sentence, *after]))
    names = tuple(labels[index % len(labels)] for index in range(count))
    return Examples(tuple(texts), names, tuple(range(2, count + 2)), "reviews.csv")
