"""A corpus as memory-mapped ids, encoded once and shared by later runs.

Knows nothing about models, and nothing of how a text becomes ids (see `building`).
"""

from __future__ import annotations

import contextlib
import json
import mmap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chargen.errors import ConfigError, CorpusError, VocabularyError, shown
from chargen.storage.directories import cache_folder, cache_limit
from chargen.text.building import FORMAT, Builder, Progress
from chargen.text.cache import IDS, META, held, hold, note_use, publish, trim, workspace
from chargen.text.config import MINIMUM_CHARACTERS, CorpusConfig
from chargen.text.files import Source, spool
from chargen.text.sources import corpus_name, from_texts, refuse_table_options, resolve
from chargen.text.vocabulary import Vocabulary, vocabulary_from_json

_GIVEN = ("the given text",)


@dataclass(frozen=True, eq=False)
class Corpus:
    """An encoded text."""

    name: str  # short, fit for the name of a folder
    vocabulary: Vocabulary
    # ids, 1-D, `vocabulary.dtype`, read-only and memory-mapped; `valid` may be empty
    train: npt.NDArray[Any]
    valid: npt.NDArray[Any]
    key: str  # names the encoding in the cache
    characters: int  # of training and validation text together, separators not counted
    sources: tuple[str, ...]  # what was read, as shown to people
    notes: tuple[str, ...]  # sentences about what was skipped, guessed or left unknown
    replay_key: str | None = None  # names the encoding of the text that is mixed in


def load_corpus(
    corpora: Sequence[str],
    config: CorpusConfig,
    *,
    texts: Any = None,
    vocabulary: Vocabulary | None = None,
    grow: Callable[[Vocabulary], Vocabulary] | None = None,
    reverse: bool = False,
    minimum: int = MINIMUM_CHARACTERS,
    progress: Progress | None = None,
) -> Corpus:
    """Encode text, or reuse the encoding of an earlier run over the same bytes.

    What is encoded anew may make the cache larger than `cache_limit`: encodings that no process
    uses then go, those used least recently first.

    Parameters
    ----------
    corpora, texts
        As for `chargen.text.sources.resolve`, or what `from_texts` there reads in their place.
    vocabulary : Vocabulary, optional
        To encode with; otherwise one is made from the corpus (without ``config.valid``).
    grow : callable, optional
        Gives the vocabulary to encode with, from the one that is made from the corpus.
    reverse : bool
        Give the ids of each part last first, for a model that reads backward.
    minimum : int
        Fewer characters than this are too few.
    progress : callable, optional
        Called with "reading", "counting" or "encoding", the bytes done and the bytes in all.

    Raises `CorpusError` for text that is missing, unreadable or too small, and a cache that cannot
    be written; `ConfigError` or `VocabularyError` for options or a vocabulary that do not fit.
    """
    if vocabulary is not None and config.documents and vocabulary.separator_id is None:
        raise ConfigError("--documents: the vocabulary was made without a document separator")
    if vocabulary is not None and config.label_column and not vocabulary.labels:
        raise ConfigError("--label-column: the vocabulary was made without labels")
    limit = cache_limit()
    notes: list[str] = []
    sources, valid = _sources(corpora, texts, config, notes)
    folder = cache_folder() / "corpora"
    named = ("standard input" if one == "-" else shown(one) for one in corpora or _GIVEN)
    with _spooled(folder, sources, valid, config.max_bytes) as (sources, valid):
        name, label = corpus_name(corpora), ", ".join(named)
        builder = Builder(
            name, label, sources, valid, config, vocabulary, reverse, minimum, progress
        )
        corpus = _built(folder, builder)
        if grow is not None and (grown := grow(corpus.vocabulary)) != corpus.vocabulary:
            corpus = _built(folder, replace(builder, vocabulary=grown))
    if removed := trim(folder, limit):
        freed = sum(one.bytes for one in removed)
        notes.append(
            f"{freed / 1e6:,.1f} MB of earlier corpora were removed from the cache, which may have"
            f" {limit / 1e9:g} GB (CHARGEN_CACHE_GB)"
        )
    # The same text may have had other names when it was encoded.
    names = tuple(source.name for source in sources + valid)
    return replace(corpus, name=name, sources=names, notes=(*notes, *corpus.notes))


def _sources(
    corpora: Sequence[str], texts: Any, config: CorpusConfig, notes: list[str]
) -> tuple[list[Source], list[Source]]:
    """What is read, and what is validated on where that is another text."""
    sources = resolve(corpora, config, notes) if texts is None else [from_texts(texts)]
    valid = [] if config.valid is None else resolve([config.valid], config, notes)
    refuse_table_options(sources + valid, config)
    if config.level == "byte" and config.min_count > 1:
        notes.append("--min-count has no effect: no byte is unknown")
    if config.valid is not None and config.valid_fraction != CorpusConfig.valid_fraction:
        notes.append("--valid-fraction has no effect: --valid names the validation text")
    return sources, valid


@contextlib.contextmanager
def _spooled(
    folder: Path, sources: list[Source], valid: list[Source], most: int | None
) -> Iterator[tuple[list[Source], list[Source]]]:
    """The same sources, with copies of pipes, which last as long as the block."""
    if not any(source.stream for source in sources + valid):
        yield sources, valid
        return
    with workspace(folder) as place:
        yield (
            [spool(source, place, f"text-{i}", most) for i, source in enumerate(sources)],
            [spool(source, place, f"valid-{i}", most) for i, source in enumerate(valid)],
        )


def current_key(
    corpora: Sequence[str],
    config: CorpusConfig,
    *,
    vocabulary: Vocabulary | None = None,
    reverse: bool = False,
    progress: Progress | None = None,
) -> str:
    """The key of the text as it is now, with arguments and errors as `load_corpus` has them.

    Nothing of it is encoded; all of it must be there (`chargen.text.sources.is_there`).
    """
    sources, valid = _sources(corpora, None, config, [])
    return Builder("", "", sources, valid, config, vocabulary, reverse, 0, progress).key()


def cached_corpus(key: str) -> Corpus | None:
    """The corpus that was encoded under this key, or None when it is not there (any more).

    The key tells the direction too: what was encoded in reverse comes in reverse.
    """
    if not key.isalnum():  # never a path out of the cache
        return None
    return _open(cache_folder() / "corpora" / key)


def release_memory(ids: npt.NDArray[Any]) -> None:
    """Let go of the pages of memory-mapped `ids` that were read; they can be read again.

    Pages of a mapped file count as resident memory until then.
    """
    base: Any = ids
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    if base is not None and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def _built(folder: Path, builder: Builder) -> Corpus:
    """What the builder makes, or the same from the cache."""
    key = builder.key()
    place = folder / key
    corpus = _open(place)
    if corpus is None:
        with workspace(folder) as work:
            made = work / key
            made.mkdir()
            builder.build(made)
            if place.exists() and _open(place) is None:  # damaged
                with contextlib.suppress(FileNotFoundError):  # another run saw it too
                    place.rename(work / "damaged")
            with held(made):
                publish(made, place)
                corpus = _open(place)
    if corpus is None:
        raise CorpusError(f"the encoded corpus {place} cannot be read back; try again")
    builder.check_size(corpus.characters)
    return corpus


def _open(place: Path) -> Corpus | None:
    """What lies at `place`, or None when it is not a whole corpus of this format."""
    try:
        meta = json.loads((place / META).read_text("utf-8"))
        vocabulary = vocabulary_from_json(meta["vocabulary"])
        split, total = meta["split"], meta["total"]
        path = place / IDS
        if (
            meta["format"] != FORMAT
            or not 0 < split <= total
            or path.stat().st_size != total * vocabulary.dtype.itemsize
        ):
            return None
        with path.open("rb") as file:
            hold(file)
            ids = np.memmap(file, dtype=vocabulary.dtype, mode="r")
            if not path.exists():  # it was removed before it was held
                return None
        note_use(place)
        return Corpus(
            name=meta["name"],
            vocabulary=vocabulary,
            train=ids[:split],
            valid=ids[split:],
            key=place.name,
            characters=meta["characters"],
            sources=tuple(meta["sources"]),
            notes=tuple(meta["notes"]),
        )
    except (OSError, ValueError, KeyError, TypeError, VocabularyError):
        return None
