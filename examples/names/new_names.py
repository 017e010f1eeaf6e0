"""New names in the style of any list of names, one per line.

A model learns from nine tenths of the list, with each name as a document of its own. Then it writes
names that are not in the list, and measures how surprising given names are. Run it:

    python examples/names/new_names.py
    python examples/names/new_names.py mylist.txt --start Ka --rate Karolin Xkcd
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
from pathlib import Path

import chargen
from chargen.cli.progress import TerminalReporter
from chargen.cli.scripts import add_training_options, run_script, training_options
from chargen.cli.terminal import visible
from chargen.text.sources import read_all

VILLAGES = Path(__file__).with_name("villages.txt")
FEWEST = 75
"""Minimum number of names in a list."""
RATED = 500
"""Maximum number of held-back names that are rated; each takes about a millisecond."""
DRAWS_A_NAME = 50
"""Maximum number of names drawn for each name that is asked for."""


def names_of(path: str) -> list[str]:
    """Return the distinct names of a list, in alphabetical order.

    Raises
    ------
    chargen.CorpusError
        If the list cannot be read or is too short.
    """
    text = read_all([path], chargen.CorpusConfig())
    names = sorted({line.strip() for line in text.split("\n")} - {""})
    if len(names) < FEWEST:
        raise chargen.CorpusError(
            f"{path} has {len(names)} different names, and at least {FEWEST} are needed"
        )
    return names


def check(args: argparse.Namespace, names: list[str]) -> None:
    """Refuse, before training, options that the model cannot satisfy.

    Raises
    ------
    chargen.ConfigError
    """
    if args.count < 1:
        raise chargen.ConfigError(f"--count must be 1 or more, got {args.count}")
    if "" in (args.rate or ()):
        raise chargen.ConfigError("--rate needs names, and one of them is empty")
    training_options(args)
    chargen.SamplingConfig(temperature=args.temperature)
    if unknown := "".join(sorted(set(args.start).difference(*names))):
        raise chargen.ConfigError(f"--start has characters that no name of the list has: {unknown}")


def train(args: argparse.Namespace, learnt: list[str], held_back: list[str]) -> chargen.Run:
    """Train on one list and validate on another, so that a short list is not memorized."""
    folder = Path(args.scratch)
    for name, part in (("train", learnt), ("valid", held_back)):
        (folder / f"{name}.txt").write_text("\n".join(part) + "\n", encoding="utf-8")
    pass_over_list = sum(map(len, learnt)) // 2048  # in steps of 16 streams and 128 characters
    return chargen.train(
        folder / "train.txt",
        args.out or folder / "model",
        documents="lines",
        valid=str(folder / "valid.txt"),
        **training_options(args),
        eval_every=min(200, max(10, pass_over_list)),
        patience=6,
        reporter=TerminalReporter(),
    )


def bits_per_char(lm: chargen.LanguageModel, name: str) -> float:
    """Return bits per character with the end, without which Ann is as good a guess as Anna."""
    return lm.score(name).bits_per_char


def draw(lm: chargen.LanguageModel, args: argparse.Namespace, names: list[str]) -> None:
    """Print new names, and how many of those drawn were listed, repeated or unfinished."""
    known = {name.casefold() for name in names}
    new: dict[str, str] = {}
    drawn = listed = repeated = unfinished = 0
    while len(new) < args.count and drawn < DRAWS_A_NAME * args.count:
        samples = lm.sample(
            args.start,
            args.count,
            temperature=args.temperature,
            max_chars=2 * max(map(len, names)),
            seed=args.seed + drawn,  # text i of a batch has seed + i
        )
        for sample in samples:
            if len(new) == args.count:
                break
            drawn += 1
            name = (args.start + sample.text).strip()
            key = name.casefold()
            unfinished += sample.ended != "end"
            listed += key in known
            repeated += key in new
            if name and sample.ended == "end" and key not in known and key not in new:
                new[key] = name
    print(
        f"\n{len(new)} new names; of {drawn} drawn, {listed} stand in the list, "
        f"{repeated} came again, {unfinished} came to no end"
    )
    for name in new.values():
        print(f"  {visible(name)}")


def rate(lm: chargen.LanguageModel, rated: list[str], names: list[str]) -> None:
    """Print the given names with their bits per character, the most likely first."""
    known = {name.casefold() for name in names}
    print("\nbits per character, the end of the name included")
    for bits, name in sorted((bits_per_char(lm, name), name) for name in rated):
        print(f"  {bits:5.2f}  {visible(name)}{'  (in the list)' * (name.casefold() in known)}")


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="New names after the manner of a list.")
    parser.add_argument("list", nargs="?", default=str(VILLAGES), help="a text, one name a line")
    parser.add_argument("--count", type=int, default=15, help="new names to write [15]")
    parser.add_argument("--start", default="", help="their beginning")
    parser.add_argument("--temperature", type=float, default=0.8, help="above 1: bolder [0.8]")
    parser.add_argument("--rate", nargs="+", action="extend", metavar="NAME", help="names to rate")
    add_training_options(parser)
    return parser.parse_args()


def main() -> None:
    """Read, train, write and rate."""
    args = arguments()
    names = names_of(args.list)
    check(args, names)
    shuffled = random.Random(args.seed).sample(names, len(names))  # lists are often sorted
    held_back = shuffled[: len(names) // 10]
    learnt = shuffled[len(held_back) :]
    with tempfile.TemporaryDirectory() as args.scratch:
        run = train(args, learnt, held_back)
        lm = chargen.load(run.directory)
    print(f"{len(learnt)} names to learn from, {len(held_back)} held back; {run.steps} steps")
    bits = [bits_per_char(lm, name) for name in held_back[:RATED]]
    low, middle, high = statistics.quantiles(bits)
    print(f"held-back names: {middle:.2f} bits per character, half of them {low:.2f} to {high:.2f}")
    draw(lm, args, names)
    if args.rate:
        rate(lm, args.rate, names)


if __name__ == "__main__":
    run_script(main)
