"""A model that writes Python, and a parser that counts how much of it is valid.

The model learns from the standard library of the Python that runs this script, with one file held
back, or from your own code. Snippets are sampled at three temperatures and passed to `ast.parse`.
Snippets of the held-back file, cut in the same way, show the result for real code. Run it:

    python examples/code/python_code.py
    python examples/code/python_code.py src/ --held-back main.py --prompt "class "
"""

from __future__ import annotations

import argparse
import ast
import random
import re
import tempfile
import warnings
from pathlib import Path

import chargen
from chargen.cli.progress import TerminalReporter
from chargen.cli.scripts import add_training_options, run_script, training_options
from chargen.cli.terminal import visible
from chargen.text.sources import read_all, resolve
from chargen.text.statistics import xz_bits_per_char

LIBRARY = ["python-stdlib"]
HELD_BACK = "argparse.py"
NO_CODE = {"encodings", "pydoc_data"}
"""Folders of the standard library that hold tables and prose."""
TEMPERATURES = (0.4, 0.7, 1.0)


def check(args: argparse.Namespace) -> None:
    """Refuse invalid options before anything is read.

    Raises
    ------
    chargen.ConfigError
    """
    if args.snippets < 1 or args.length < 1:
        raise chargen.ConfigError("--snippets and --length must be 1 or more")
    training_options(args)


def files_of(args: argparse.Namespace) -> tuple[list[Path], Path]:
    """Return the files to learn from, in an order drawn from the seed, and the held-back file.

    Raises
    ------
    chargen.CorpusError
        If there are fewer than two.
    chargen.ConfigError
        If the file to hold back is not among them, or several have its name.
    """
    sources = resolve(args.code, chargen.CorpusConfig(glob="*.py"))
    paths = [source.path for source in sources if source.path and source.size]
    if args.code == LIBRARY:
        paths = [path for path in paths if path.parent.name not in NO_CODE]
    if len(paths) < 2:
        raise chargen.CorpusError("at least two files with code are needed: one is held back")
    # Files of one package are neighbours; the last 2 % of the text, on which training is validated,
    # should come from all of them.
    random.Random(args.seed).shuffle(paths)
    name = args.held_back or (HELD_BACK if args.code == LIBRARY else str(paths[0]))
    whole_paths = [path for path in paths if name == str(path)]
    matches = whole_paths or [path for path in paths if name == path.name]
    if not matches:
        raise chargen.ConfigError(f"--held-back {name} is none of the {len(paths)} files")
    if len(matches) > 1:
        listed = " or ".join(sorted(map(str, matches))[:5])
        raise chargen.ConfigError(f"--held-back {name} is the name of several files: give {listed}")
    return [path for path in paths if path != matches[0]], matches[0]


def whole_lines(snippet: str) -> str:
    """Return the snippet without its last line, which was cut."""
    return snippet[: snippet.rfind("\n") + 1]


def whole_statements(snippet: str) -> str:
    """Return the snippet up to the start of its last line without indentation."""
    starts = [match.start() for match in re.finditer(r"^[\w@]", snippet, re.M)]
    return snippet[: starts[-1]] if starts else ""


def parses(code: str) -> bool:
    """Whether the code parses and has at least one statement."""
    try:
        return bool(ast.parse(code).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def real_snippets(code: str, prompt: str, length: int) -> list[str]:
    """Return the code from each line that begins with the prompt, without its indentation."""
    matches = re.finditer(rf"^([ \t]*)(?={re.escape(prompt)})", code, re.M)
    # Three times the length leaves enough after the indentation is removed.
    pieces = [(match[1], code[match.end() :][: 3 * length + len(prompt)]) for match in matches]
    cut = [re.sub(rf"^{indent}", "", piece, flags=re.M) for indent, piece in pieces]
    return [piece[: len(prompt) + length] for piece in cut]


def row(name: str, snippets: list[str]) -> str:
    """Return a line of the table: how many snippets parse."""
    lines = [parses(whole_lines(snippet)) for snippet in snippets]
    either = [
        good or parses(whole_statements(snippet))
        for good, snippet in zip(lines, snippets, strict=True)
    ]
    return f"{name:16}{len(snippets):8}{sum(lines):14}{sum(either):24}"


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Write Python, and parse what was written.")
    parser.add_argument("code", nargs="*", default=LIBRARY, help="files or folders [python-stdlib]")
    parser.add_argument("--held-back", metavar="FILE", help=f"[{HELD_BACK}, or one by the seed]")
    parser.add_argument("--prompt", default="def ", help="what a snippet begins with ['def ']")
    parser.add_argument("--snippets", type=int, default=100, help="at each temperature [100]")
    parser.add_argument("--length", type=int, default=200, help="characters of a snippet [200]")
    add_training_options(parser)
    return parser.parse_args()


def main() -> None:
    """Read, train, measure, sample and parse."""
    args = arguments()
    check(args)
    learnt, held_back = files_of(args)
    with tempfile.TemporaryDirectory() as scratch:
        run = chargen.train(
            learnt,
            args.out or Path(scratch) / "model",
            **training_options(args),
            errors="replace",  # old files may have another encoding
            valid_fraction=0.02,
            reporter=TerminalReporter(),
        )
        lm = chargen.load(run.directory)
    code = read_all([str(held_back)], chargen.CorpusConfig(errors="replace"))
    bits = lm.score(code, streams=16).bits_per_char
    print(f"{len(learnt)} files to learn from, {run.steps} steps in {run.seconds:.0f} s")
    xz = xz_bits_per_char(code)
    print(f"{held_back.name}, held back: {bits:.2f} bits per character; xz on that file: {xz:.2f}")

    print(f"\n{'temperature':16}snippets  parse to their  or at least to their last")
    print(f"{'':26}last line       top-level statement")
    shown = []
    for temperature in TEMPERATURES:
        samples = lm.sample(
            args.prompt,
            args.snippets,
            temperature=temperature,
            max_chars=args.length,
            seed=args.seed,
        )
        snippets = [args.prompt + sample.text for sample in samples]
        print(row(str(temperature), snippets))
        shown += [(temperature, s) for s in snippets if parses(whole_lines(s))][:1]
    if real := real_snippets(code, args.prompt, args.length):
        print(row("the real file", real))
    for temperature, snippet in shown:
        print(f"\n# {temperature}: the first that parses\n{visible(whole_lines(snippet)).strip()}")


if __name__ == "__main__":
    warnings.simplefilter("ignore", SyntaxWarning)  # of the code that is parsed
    warnings.simplefilter("ignore", DeprecationWarning)
    run_script(main)
