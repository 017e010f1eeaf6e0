"""Data sets in the cache: fetched, checked and unpacked once, then available offline."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from chargen.errors import CorpusError, MissingExtraError, printable
from chargen.storage.directories import cache_folder, replace_directory, sync_file
from chargen.text import datasets
from chargen.text.cache import not_writable, workspace
from chargen.text.datasets import Dataset, Reference
from chargen.text.download import Downloader
from chargen.text.unpacking import unpack

_SHIPPED_FOLDERS = (
    Path(__file__).parent.parent / "texts",  # in a wheel
    Path(__file__).parent.parent.parent / "corpora",  # in a checkout
)
_LOCK_TIMEOUT = 3600.0  # seconds to wait for a process that fetches the same data set

Report = Callable[[str], None]


@dataclass(frozen=True)
class Fetched:
    """A data set in the cache."""

    dataset: Dataset
    folder: Path
    sha256: tuple[str, ...]  # of each file as it was fetched
    bytes: int  # total size of the parts

    def path(self, part: str) -> Path:
        return self.folder / self.dataset.parts[part]


def dataset_reference(argument: str) -> Reference | None:
    """Return the data set that `argument` names, or None; an existing path takes precedence."""
    if "\0" in argument:
        return None
    names = (*datasets.CATALOGUE, datasets.GUTENBERG)
    named = "://" in argument or argument.partition(":")[0] in names
    return datasets.parse(argument) if named and not os.path.lexists(argument) else None


def fetch_paths(reference: Reference, report: Report | None = None) -> list[Path]:
    """Return the files and folders that a language model reads, fetched if necessary by `fetch`."""
    fetched = fetch(reference, report=report)
    parts = (reference.part,) if reference.part else reference.dataset.reading
    return [fetched.path(part) for part in parts]


def labelled_path(argument: str) -> str:
    """Return the path of a data set's labelled texts; return any other argument unchanged.

    Raises `CorpusError` if the data set has no labels, and the errors of `fetch`.
    """
    reference = dataset_reference(argument)
    if reference is None:
        return argument
    part = reference.part or reference.dataset.labelled
    if part is None:
        raise CorpusError(f"{argument} has no labels: it can only train a language model")
    return str(fetch(reference).path(part))


def valid_part(corpora: Sequence[str]) -> str | None:
    """Return the validation part (``name:part``) of the one data set in `corpora`, or None."""
    reference = dataset_reference(corpora[0]) if len(corpora) == 1 else None
    if reference is None or reference.part or reference.dataset.valid is None:
        return None
    return f"{reference.dataset.name}:{reference.dataset.valid}"


def cached(reference: Reference) -> Fetched | None:
    """Return the data set from the cache, or None if it is missing or incomplete."""
    dataset = reference.dataset
    if dataset.unpack == "shipped":
        return _shipped(dataset)
    folder = _home() / reference.key
    try:
        record = json.loads((folder / datasets.RECORD).read_text("utf-8"))
        sizes, hashes = dict(record["bytes"]), tuple(map(str, record["sha256"]))
        if sizes.keys() != dataset.parts.keys():
            return None
        for part, name in dataset.parts.items():
            path = folder / name
            if not path.exists() or (path.is_file() and path.stat().st_size != sizes[part]):
                return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    for file, sha256 in zip(dataset.files, hashes, strict=False):
        known = file.known_hash or ""
        if known.startswith("sha256:") and known != f"sha256:{sha256}":  # another file is asked for
            return None
    return Fetched(dataset, folder, hashes, sum(sizes.values()))


def fetch(
    reference: Reference,
    *,
    again: bool = False,
    report: Report | None = None,
    downloader: Callable[..., Downloader] = Downloader,
) -> Fetched:
    """Return a data set from the cache, after fetching it if it is missing or `again` is true.

    `report` is called with a message for each file that is fetched; `downloader` makes the
    `Downloader`. Raises `CorpusError` if the data set cannot be reached, has a wrong hash or cannot
    be written; the cache is then unchanged. Without pooch, fetching raises `MissingExtraError`.
    """
    shipped = reference.dataset.unpack == "shipped"
    if (shipped or not again) and (existing := cached(reference)):
        return existing
    if shipped:
        raise CorpusError(f"{reference.dataset.name} is not in this installation of chargen")
    from filelock import FileLock, Timeout

    home, name = _home(), reference.dataset.name
    try:
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / f"{reference.key}.lock", timeout=_LOCK_TIMEOUT):
            if not again and (existing := cached(reference)):  # fetched meanwhile
                return existing
            _fetch_and_unpack(reference, home, report, downloader)
    except Timeout as error:
        raise CorpusError(f"another process is fetching {name}: wait for it") from error
    except OSError as error:
        raise not_writable(name, home, error) from error
    fetched = cached(reference)
    if fetched is None:
        raise CorpusError(f"{name} cannot be read back from {home}; try again")
    return fetched


def _shipped(dataset: Dataset) -> Fetched | None:
    for folder in _SHIPPED_FOLDERS:
        paths = [folder / name for name in dataset.parts.values()]
        if all(path.is_file() for path in paths):
            return Fetched(dataset, folder, (), sum(path.stat().st_size for path in paths))
    return None


def _fetch_and_unpack(
    reference: Reference, home: Path, report: Report | None, downloader: Callable[..., Downloader]
) -> None:
    dataset = reference.dataset
    with workspace(home, dataset.name) as work:
        hashes, fetched = [], []
        for number, file in enumerate(dataset.files):
            if report:
                size = f" ({dataset.size / 1e6:.1f} MB)" if dataset.size and not number else ""
                report(f"fetching {printable(file.url)}{size}")
            part = home / f"{reference.key}-{number}.part"
            path, sha256 = _download(file, part, work, f"fetched-{number}", downloader)
            hashes.append(sha256)
            fetched.append(path)
        made = work / "made"
        made.mkdir()
        notes: list[str] = []
        unpack(dataset, fetched, made, notes)
        if report:
            for note in notes:
                report(f"{dataset.name}: {note}")
        sizes = {part: _bytes_of(made / name) for part, name in dataset.parts.items()}
        record = {
            "name": dataset.name,
            "urls": [file.url for file in dataset.files],
            "sha256": hashes,
            "bytes": sizes,
            "licence": dataset.licence,
            "fetched": time.strftime("%Y-%m-%d", time.gmtime()),
        }
        with (made / datasets.RECORD).open("w", encoding="utf-8") as target:
            json.dump(record, target, indent=1)
            sync_file(target)
        replace_directory(made, home / reference.key, home / f"{reference.key}.previous")


def _download(
    file: datasets.Remote,
    partial_file: Path,
    work: Path,
    name: str,
    downloader: Callable[..., Downloader],
) -> tuple[Path, str]:
    """Fetch a file; return its path and its SHA-256 hash."""
    try:
        import pooch
    except ImportError as error:
        raise MissingExtraError(f"fetching {printable(file.url)}", "data") from error
    pooch.get_logger().setLevel(logging.ERROR)  # pooch would tell the user to set known_hash
    fetcher = downloader(partial_file, hash_checked=file.known_hash is not None)
    try:
        path = pooch.retrieve(file.url, file.known_hash, name, work, downloader=fetcher)
    except ValueError as error:  # pooch raises it for a wrong hash
        raise CorpusError(
            f"{printable(file.url)} is not the expected file: its hash is not {file.known_hash}; "
            "it was not kept"
        ) from error
    return Path(path), pooch.file_hash(path)


def _bytes_of(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _home() -> Path:
    return cache_folder() / "datasets"
