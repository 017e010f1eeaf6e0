"""`chargen corpus`: list, fetch and describe corpora, and clean the cache."""

from __future__ import annotations

import dataclasses
import math
import shlex
import time
from functools import partial
from typing import Any

import click

from chargen.cli.groups import Group
from chargen.cli.options import json_option, option, options_of, quiet_option
from chargen.cli.terminal import echo_json, say, say_notes, visible
from chargen.errors import ConfigError, did_you_mean, printable
from chargen.options import check_argument, flag
from chargen.text.config import MINIMUM_CHARACTERS, CorpusConfig


@click.group(cls=Group, heading="Texts")
def corpus() -> None:
    """List, fetch and describe corpora; clean the cache.

    \b
    chargen corpus list
    chargen corpus fetch shakespeare
    chargen corpus info mybook.txt
    chargen corpus clean
    """


@corpus.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """List the data sets that can be given by name as a corpus.

    \b
    chargen corpus list
    chargen train shakespeare --minutes 10
    """
    rows = _dataset_rows()
    if as_json:
        echo_json(rows)
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        size = f"{row['bytes'] / 1e6:.1f} MB" if row["bytes"] else "-"
        here = {True: "here", False: "to fetch"}[row["here"]]
        click.echo(
            f"{row['name']:{width}}  {size:>8}  {here:8}  {row['language']}; {row['licence']}"
        )
        click.echo(f"{'':{width}}  {row['about']}")
        if row["parts"]:
            click.echo(f"{'':{width}}  {', '.join(row['parts'])}")


def _dataset_rows() -> list[dict[str, Any]]:
    from chargen.text import builtin, datasets, fetching

    keys = ("name", "bytes", "here", "language", "licence", "about", "parts")
    rows: list[tuple[Any, ...]] = [
        (name, 0, True, language, licence, about, [])
        for name, language, licence, about in builtin.DESCRIPTIONS
    ]
    for name, entry in datasets.CATALOGUE.items():
        here = fetching.cached(datasets.Reference(entry, name)) is not None
        parts = [f"{name}:{part}" for part in entry.parts] if len(entry.parts) > 1 else []
        rows.append((name, entry.size, here, entry.language, entry.licence, entry.about, parts))
    about = "a book of Project Gutenberg by its number, without header and licence"
    licence = "public domain in the USA"
    rows.append((f"{datasets.GUTENBERG}:NUMBER", 0, False, "many", licence, about, []))
    return [dict(zip(keys, row, strict=True)) for row in rows]


@corpus.command()
@click.argument("name")
@option("--sha256", help="Expected SHA-256 of the file at an address.")
@option("--again", is_flag=True, help="Download it again even if it is in the cache.")
@json_option
@quiet_option
def fetch(name: str, sha256: str | None, again: bool, as_json: bool, quiet: bool) -> None:
    """Download a data set into the cache, and print where its texts are.

    NAME is a name in `chargen corpus list`, with or without a part, gutenberg:NUMBER, or an http,
    https or file address. An archive is unpacked to a folder. An interrupted download continues
    where it stopped.

    \b
    chargen corpus fetch shakespeare
    chargen corpus fetch gutenberg:1342
    chargen corpus fetch https://example.org/book.txt --sha256 HEX
    """
    from chargen.text import datasets, fetching
    from chargen.text.download import Downloader

    reference = datasets.parse(name, sha256)
    if reference is None:
        raise _unknown_dataset_error(name)
    fetched = fetching.fetch(
        reference,
        again=again,
        report=None if quiet else say,
        downloader=partial(Downloader, progress=not quiet),
    )
    parts = [reference.part] if reference.part else list(fetched.dataset.parts)
    if as_json:
        facts = {
            "name": name,
            "paths": {part: str(fetched.path(part)) for part in parts},
            "sha256": list(fetched.sha256),
            "bytes": fetched.bytes,
            "licence": fetched.dataset.licence,
        }
        echo_json(facts)
        return
    for part in parts:
        click.echo(visible(str(fetched.path(part))))
    files = fetched.dataset.files
    if files and not quiet and not any(file.known_hash for file in files):
        say(
            f"its SHA-256 is {fetched.sha256[0]}; it was not checked: look at the text before you "
            "use it"
        )


def _unknown_dataset_error(name: str) -> click.UsageError:
    from chargen.text import datasets

    hint = did_you_mean(name.partition(":")[0], datasets.CATALOGUE)
    hint = hint or "; see: chargen corpus list"
    return click.UsageError(f"there is no data set {printable(name)!r}{hint}")


@corpus.command()
@click.argument("corpora", nargs=-1, required=True, metavar="NAME|PATH...")
@options_of(CorpusConfig, leave_out=("min_count", "valid", "valid_fraction"))
@json_option
def info(corpora: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Describe a text: characters, entropies, xz, warnings.

    The command reports signs of a wrong encoding and proposes a first command for training. The
    entropy of order N, in bits per character, is what a table of character counts after each
    context of N characters reaches on this same text. A good model needs fewer bits than xz.

    \b
    chargen corpus info mybook.txt
    chargen corpus info drafts/ --glob '*.md'
    chargen corpus info shakespeare --json
    """
    from chargen.lm.recipes import suggest_first_run
    from chargen.text import sources
    from chargen.text.statistics import statistics

    notes: list[str] = []
    config = CorpusConfig(**options)
    resolved = sources.resolve(corpora, config, notes)
    seen: set[str] = set()
    encoding = "" if config.raw_bytes else config.encoding
    sources.refuse_table_options(resolved, config)
    pieces = sources.read(resolved, config, notes, None, seen, lambda _: "")
    figures = statistics(pieces, encoding, ", ".join(map(printable, corpora)))
    sources.require_marker(resolved, config, seen)
    minutes, hidden = suggest_first_run(figures.characters)
    command = _training_command(corpora, config, figures, minutes)
    if as_json:
        facts = dataclasses.asdict(figures) | {
            "sources": len(resolved),
            "suggested_minutes": minutes,
            "suggested_hidden_size": hidden,
            "suggested_command": command,
            "notes": notes,
        }
        echo_json(facts)
        return
    say_notes(notes)
    _print_statistics(figures)
    if command is None:
        few = f"fewer than the {MINIMUM_CHARACTERS} characters that training needs"
        click.echo(f"{'to begin with':24} more text: these are {few}")
        return
    click.echo(f"{'to begin with':24} {visible(command)}")
    click.echo(f"{'':24} (about {hidden} hidden units on a machine with two fast cores)")


def _training_command(
    corpora: tuple[str, ...], config: CorpusConfig, figures: Any, minutes: float
) -> str | None:
    """Return a command that trains on this text, read as `config` says; None if it is too short."""
    if figures.characters < MINIMUM_CHARACTERS:
        return None
    names = [f"./{name}" if name.startswith("-") and name != "-" else name for name in corpora]
    words = ["chargen", "train", *names, "--minutes", f"{minutes:g}"]
    for field, kind in CorpusConfig.typed_fields():
        value = getattr(config, field.name)
        if not field.metadata["help"] or value == field.default:
            continue
        if kind.value_type is bool:
            words.append(flag(field) if value else f"--no-{field.name}")
        for item in () if kind.value_type is bool else value if kind.multiple else (value,):
            words += [flag(field), "tab" if item == "\t" else str(item)]
    if config.documents is not None and figures.documents < 2:
        words += ["--valid-fraction", "0"]  # a single document cannot be split
    return shlex.join(words)


@corpus.command()
@option("--all", "everything", is_flag=True, help="Remove all encodings that no run is using.")
@option(
    "--older-than",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help="Remove encodings that no run has used for this many days.",
)
@json_option
def clean(everything: bool, older_than: float | None, as_json: bool) -> None:
    """List and remove encoded corpora in the cache.

    The cache contains the encoded form of each text that training has read. Without an option the
    command removes nothing: it lists the encodings and the space that --all would free. Above 10 GB
    (or the number in the variable CHARGEN_CACHE_GB) the least recently used encodings are removed
    automatically. Encodings that a run is using and downloaded data sets are kept. A run whose text
    came from a pipe cannot be resumed after its encoding was removed.

    \b
    chargen corpus clean
    chargen corpus clean --older-than 30
    chargen corpus clean --all --json
    """
    from chargen.storage.directories import cache_folder, cache_limit
    from chargen.text import cache

    if everything and older_than is not None:
        raise ConfigError("--all and --older-than exclude each other: give one of them")
    folder, limit = cache_folder() / "corpora", cache_limit()
    encodings = cache.encodings(folder)
    rows: list[dict[str, Any]] = [
        {
            "name": encoding.name,
            "key": encoding.path.name,
            "bytes": encoding.bytes,
            "used": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(encoding.used)),
            "in_use": encoding.in_use,
        }
        for encoding in encodings
    ]
    chosen = encodings if everything else []
    if older_than is not None:
        check_argument("--older-than", older_than, float, low=0)  # click's range accepts NaN
        chosen = cache.older_than(encodings, older_than)
    removed = cache.remove(chosen)
    for row, encoding in zip(rows, encodings, strict=True):
        row["removed"] = encoding in removed
    facts = {
        "folder": str(folder),
        "limit_bytes": int(limit) if math.isfinite(limit) else None,
        "bytes": sum(encoding.bytes for encoding in encodings),
        "removable_bytes": sum(row["bytes"] for row in rows if not row["in_use"]),
        "freed_bytes": sum(encoding.bytes for encoding in removed),
        "encodings": rows,
    }
    if as_json:
        echo_json(facts)
    else:
        _print_cache(facts, removal_requested=everything or older_than is not None)


def _print_cache(facts: dict[str, Any], removal_requested: bool) -> None:
    def size(count: int) -> str:
        return f"{count / 1e6:,.1f} MB"

    for row in facts["encodings"]:
        state = "removed" if row["removed"] else "in use" if row["in_use"] else ""
        line = f"{size(row['bytes']):>14}  used {row['used'][:10]}  {state:7}  {row['name'] or '?'}"
        click.echo(visible(line))
    click.echo(visible(f"{size(facts['bytes']):>14}  in {facts['folder']}"))
    if removal_requested:
        click.echo(f"{size(facts['freed_bytes']):>14}  freed")
    else:
        click.echo(f"{size(facts['removable_bytes']):>14}  would be freed by --all")


def _print_statistics(figures: Any) -> None:
    is_part = figures.looked_at < figures.characters
    scope = f" (of the first {figures.looked_at:,} characters)" if is_part else ""
    rows = [
        ("characters", f"{figures.characters:,}"),
        ("lines", f"{figures.lines:,}"),
        *([("documents", f"{figures.documents:,}")] if figures.documents else []),
        ("distinct characters", f"{figures.distinct:,}, {figures.once:,} of them seen once"),
        ("the rarest", "  ".join(f"{_visible_character(c)} {n:,}" for c, n in figures.rarest)),
        *(
            (f"entropy of order {order}", f"{bits:.3f} bits per character{scope}")
            for order, bits in enumerate(figures.entropy)
        ),
        ("xz", f"{figures.xz:.3f} bits per character{scope}"),
        *(("suspicious", text) for text in figures.suspicions),
    ]
    for name, value in rows:
        click.echo(visible(f"{name:24} {value}"))


def _visible_character(character: str) -> str:
    """Return the character, or its repr if it would be invisible in a list."""
    return character if character.isprintable() and character != " " else repr(character)
