"""One model of several languages, in which a tag selects the language to write.

Each paragraph of each text becomes a document that begins with a tag of its language: a character
of its own, from Unicode's private use area (U+E000 on). The tag also replaces every space, because
a tag that is given only once loses its effect after some words (see ``--tag-once``). So a prompt of
the tag alone selects a language, and the likelihood of a paragraph under each tag shows which
language it is in. Run it:

    python examples/multilingual/languages.py
    python examples/multilingual/languages.py eng.txt deu.txt fra.txt nld.txt
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import chargen
from chargen.cli.progress import TerminalReporter
from chargen.cli.scripts import add_training_options, run_script, training_options
from chargen.cli.terminal import visible
from chargen.text.sources import read_all, resolve

TEXTS = Path(__file__).with_name("texts")
FIRST_TAG = 0xE000
FEWEST = 10
"""Minimum number of paragraphs of a language: one is for validation, one for the test."""


@dataclass(frozen=True)
class Language:
    """A tag, and paragraphs for training, validation and the test."""

    tag: str
    learnt: list[str]
    watched: list[str]
    tested: list[str]


def check(args: argparse.Namespace) -> None:
    """Refuse invalid options before anything is read.

    Raises
    ------
    chargen.ConfigError
    """
    for option, least in (("samples", 0), ("length", 1), ("shortest", 1), ("tests", 1)):
        if (value := getattr(args, option)) < least:
            raise chargen.ConfigError(f"--{option} must be {least} or more, got {value}")
    training_options(args)
    chargen.SamplingConfig(temperature=args.temperature)


def languages_of(args: argparse.Namespace) -> dict[str, Language]:
    """Read the texts and hold back two tenths of each language.

    Raises
    ------
    chargen.CorpusError
        If there is only one language, two files have one name, or a text is too short.
    """
    languages: dict[str, Language] = {}
    for source in resolve(args.texts, chargen.CorpusConfig()):
        name = "" if source.path is None else source.path.name.split(".")[0]
        if source.path is None or name in languages:
            raise chargen.CorpusError(
                f"{source.name}: each language is a file, and its name is that of the language"
            )
        lines = read_all([str(source.path)], chargen.CorpusConfig()).split("\n")
        paragraphs = list(dict.fromkeys(line.strip() for line in lines))
        paragraphs = [text for text in paragraphs if len(text) >= args.shortest]
        if len(paragraphs) < FEWEST:
            raise chargen.CorpusError(
                f"{source.name} has {len(paragraphs)} paragraphs (lines) of at least "
                f"{args.shortest} characters, and {FEWEST} are needed"
            )
        random.Random(f"{args.seed} {name}").shuffle(paragraphs)
        tenth = len(paragraphs) // 10
        tested = paragraphs[tenth : 2 * tenth][: args.tests]
        tag = chr(FIRST_TAG + len(languages))
        languages[name] = Language(tag, paragraphs[2 * tenth :], paragraphs[:tenth], tested)
    if len(languages) < 2:
        raise chargen.CorpusError("at least two languages are needed, each in a file of its own")
    return languages


def tagged(tag: str, text: str, once: bool) -> str:
    """Return a text as the model reads it, which is one character longer than the text."""
    return tag + (text if once else text.replace(" ", tag))


def train(args: argparse.Namespace, languages: dict[str, Language]) -> chargen.Run:
    """Train one model on all languages, with paragraphs in an order drawn from the seed."""
    folder = Path(args.scratch)
    characters = 0
    for name in ("learnt", "watched"):
        documents = [
            tagged(language.tag, text, args.tag_once)
            for language in languages.values()
            for text in getattr(language, name)
        ]
        random.Random(args.seed).shuffle(documents)
        text = "\n".join(documents) + "\n"
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
        characters = max(characters, len(text))
    return chargen.train(
        folder / "learnt.txt",
        args.out or folder / "model",
        documents="lines",
        valid=str(folder / "watched.txt"),
        **training_options(args),
        # About once per pass: short texts are soon memorized, and the best weights are kept.
        eval_every=min(200, max(10, characters // 2048)),
        patience=6,
        reporter=TerminalReporter(),
    )


class Trigrams:
    """The baseline: counts of three characters in a row, with one added to each."""

    def __init__(self, languages: dict[str, Language]) -> None:
        self.counts = {
            name: Counter(gram for text in language.learnt for gram in self.grams(text))
            for name, language in languages.items()
        }
        self.different = len(set().union(*self.counts.values()))

    @staticmethod
    def grams(text: str) -> list[str]:
        """Return the trigrams of a text with a space on either side."""
        padded = f" {text} "
        return [padded[i : i + 3] for i in range(len(padded) - 2)]

    def log_likelihood(self, name: str, text: str) -> float:
        """Return the log-probability of a text's trigrams in a language, as if independent."""
        counts = self.counts[name]
        total = counts.total() + self.different
        return sum(math.log((counts[gram] + 1) / total) for gram in self.grams(text))


def log_likelihood(lm: chargen.LanguageModel, text: str) -> float:
    """Return the log-probability of a tagged text after its first tag, without its end."""
    return float(lm.score(text, as_is=True).log_probs[1:].sum())


def likeliest(scores: dict[str, float]) -> str:
    """Return the name with the highest score."""
    return max(scores, key=lambda name: scores[name])


def write(
    lm: chargen.LanguageModel, args: argparse.Namespace, languages: dict[str, Language]
) -> None:
    """Print sample lines in each language."""
    spaces = dict.fromkeys((ord(language.tag) for language in languages.values()), " ")
    for name, language in languages.items():
        samples = lm.sample(
            language.tag,
            args.samples,
            temperature=args.temperature,
            max_chars=args.length,
            seed=args.seed,
        )
        print()
        for sample in samples:
            print(f"{name}: {visible(sample.text.translate(spaces))}")


def identify(
    lm: chargen.LanguageModel, args: argparse.Namespace, languages: dict[str, Language]
) -> None:
    """Print how often the model and the trigrams find the language of test paragraphs."""
    trigrams = Trigrams(languages)
    totals: Counter[str] = Counter()
    confused: Counter[tuple[str, str]] = Counter()
    print(f"\n{'language':14}learnt  tested  bits/char  by the model  by trigrams")
    for name, language in languages.items():
        pieces = [text[: args.length] for text in language.tested]
        nats = 0.0
        correct: Counter[str] = Counter()
        for piece in pieces:
            by_model = {
                n: log_likelihood(lm, tagged(other.tag, piece, args.tag_once))
                for n, other in languages.items()
            }
            by_trigrams = {n: trigrams.log_likelihood(n, piece) for n in languages}
            nats -= by_model[name]
            best = likeliest(by_model)
            confused[name, best] += best != name
            correct.update(model=best == name, trigrams=likeliest(by_trigrams) == name)
        bits = nats / math.log(2) / sum(map(len, pieces))
        print(
            f"{name:14}{len(language.learnt):6}{len(pieces):8}{bits:11.2f}"
            f"{correct['model']:14}{correct['trigrams']:13}"
        )
        totals.update(correct, tested=len(pieces))
    frequent = max(languages, key=lambda name: len(languages[name].learnt))
    tested = totals["tested"]
    print(
        f"\naccuracy on {tested} paragraphs of at most {args.length} characters: "
        f"model {totals['model'] / tested:.3f}, trigrams {totals['trigrams'] / tested:.3f}, "
        f"always {frequent} {len(languages[frequent].tested) / tested:.3f}"
    )
    for (name, taken), times in confused.most_common(5):
        if times:
            print(f"  {name} taken for {taken}: {times}")


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="One model of several languages.")
    parser.add_argument(
        "texts",
        nargs="*",
        default=[str(TEXTS)],
        help="files, one a language, a paragraph a line, or folders of them",
    )
    parser.add_argument("--samples", type=int, default=2, help="lines in each language [2]")
    parser.add_argument("--temperature", type=float, default=0.7, help="of the lines [0.7]")
    parser.add_argument(
        "--length", type=int, default=100, help="characters to write or to judge by, at most [100]"
    )
    parser.add_argument(
        "--shortest", type=int, default=20, help="characters of a paragraph; shorter: left out [20]"
    )
    parser.add_argument("--tests", type=int, default=10, help="of each language, at most [10]")
    parser.add_argument(
        "--tag-once", action="store_true", help="only at the beginning, not for every space"
    )
    add_training_options(parser)
    return parser.parse_args()


def main() -> None:
    """Read, train, write and identify."""
    args = arguments()
    check(args)
    languages = languages_of(args)
    with tempfile.TemporaryDirectory() as args.scratch:
        run = train(args, languages)
        lm = chargen.load(run.directory)
    print(f"{len(languages)} languages, {run.steps} steps in {run.seconds:.0f} s")
    if args.samples:
        write(lm, args, languages)
    identify(lm, args, languages)


if __name__ == "__main__":
    run_script(main)
