"""Corpora as memory-mapped ids, each encoded once and shared by later runs.

`chargen.text.building` turns a text into ids; this module does not depend on models.
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

from chargen.errors import ConfigError, CorpusError, VocabularyError, printable
from chargen.storage.directories import cache_folder, cache_limit
from chargen.text.building import FORMAT, Builder, Progress
from chargen.text.cache import (
    IDS,
    META,
    lock_shared,
    publish,
    record_use,
    shared_lock,
    trim,
    workspace,
)
from chargen.text.config import MINIMUM_CHARACTERS, CorpusConfig
from chargen.text.files import Source, byte_blocks, spool
from chargen.text.sources import corpus_name, from_texts, refuse_table_options, resolve
from chargen.text.vocabulary import Vocabulary, vocabulary_from_json

_TEXTS_NAME = ("the given text",)


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text encoded as ids, divided into training and validation text."""

    name: str  # short, valid as the name of a folder
    vocabulary: Vocabulary
    # 1-D ids of type `vocabulary.dtype`, read-only and memory-mapped; `valid` may be empty
    train: npt.NDArray[Any]
    valid: npt.NDArray[Any]
    key: str  # name of the encoding in the cache
    characters: int  # in training and validation text together, without separators
    sources: tuple[str, ...]  # names of the texts that were read, as shown to people
    notes: tuple[str, ...]  # sentences about text that was skipped, guessed or unknown
    replay_key: str | None = None  # `key` of the text that is mixed in


def load_corpus(
    corpora: Sequence[str],
    config: CorpusConfig,
    *,
    texts: Any = None,
    vocabulary: Vocabulary | None = None,
    extend_vocabulary: Callable[[Vocabulary], Vocabulary] | None = None,
    reverse: bool = False,
    min_characters: int = MINIMUM_CHARACTERS,
    progress: Progress | None = None,
) -> Corpus:
    """Encode a text, or reuse the encoding of an earlier run over the same bytes.

    If the cache then exceeds `cache_limit`, encodings that no process uses are removed, the least
    recently used first. Raises `CorpusError` if the text is missing, unreadable or too small, or
    the cache cannot be written; `ConfigError` or `VocabularyError` if options or the vocabulary do
    not fit.

    Parameters
    ----------
    corpora : sequence of str
        What to read, as for `chargen.text.sources.resolve`.
    config : CorpusConfig
        How to read, split and encode the text.
    texts : iterable of str, optional
        Texts to read instead of `corpora`, as for `chargen.text.sources.from_texts`.
    vocabulary : Vocabulary, optional
        Vocabulary to encode with; by default one is made from the corpus without ``config.valid``.
    extend_vocabulary : callable, optional
        Takes the vocabulary made from the corpus and returns the one to encode with.
    reverse : bool
        Reverse the ids of the training and of the validation text, for a model that reads backward.
    min_characters : int
        Smallest number of characters that is accepted.
    progress : callable, optional
        Called with "reading", "counting" or "encoding", the bytes done and the bytes in all.
    """
    if vocabulary is not None and config.documents and vocabulary.separator_id is None:
        raise ConfigError("--documents: the vocabulary was made without a document separator")
    if vocabulary is not None and config.label_column and not vocabulary.labels:
        raise ConfigError("--label-column: the vocabulary was made without labels")
    limit = cache_limit()
    notes: list[str] = []
    sources, valid = _resolve_sources(corpora, texts, config, notes)
    folder = cache_folder() / "corpora"
    labels = (
        "standard input" if each == "-" else printable(each) for each in corpora or _TEXTS_NAME
    )
    with _spooled(folder, sources, valid, config.max_bytes) as (sources, valid):
        name, label = corpus_name(corpora), ", ".join(labels)
        builder = Builder(
            name, label, sources, valid, config, vocabulary, reverse, min_characters, progress
        )
        corpus = _cached_or_built(folder, builder)
        if (
            extend_vocabulary is not None
            and (grown := extend_vocabulary(corpus.vocabulary)) != corpus.vocabulary
        ):
            corpus = _cached_or_built(folder, replace(builder, vocabulary=grown))
    if removed := trim(folder, limit):
        freed = sum(encoding.bytes for encoding in removed)
        notes.append(
            f"{freed / 1e6:,.1f} MB of earlier corpora were removed from the cache, which is "
            f"limited to {limit / 1e9:g} GB (CHARGEN_CACHE_GB)"
        )
    # The sources may have had other names when this text was encoded.
    names = tuple(source.name for source in sources + valid)
    return replace(corpus, name=name, sources=names, notes=(*notes, *corpus.notes))


def _resolve_sources(
    corpora: Sequence[str], texts: Any, config: CorpusConfig, notes: list[str]
) -> tuple[list[Source], list[Source]]:
    """Return the sources to read, and those of a separate validation text (if there is one)."""
    sources = resolve(corpora, config, notes) if texts is None else [from_texts(texts)]
    if texts is not None and config.documents == "rows" and config.label_column is None:
        config = replace(config, documents="files")  # a file to validate on may be no table
    valid = [] if config.valid is None else resolve([config.valid], config, notes)
    refuse_table_options(sources + valid, config)
    if config.level == "byte" and config.min_count > 1:
        notes.append("--min-count has no effect: no byte is unknown")
    if config.valid is not None and config.valid_fraction != CorpusConfig.valid_fraction:
        notes.append("--valid-fraction has no effect: --valid names the validation text")
    return sources, valid


@contextlib.contextmanager
def _spooled(
    folder: Path, sources: list[Source], valid: list[Source], max_bytes: int | None
) -> Iterator[tuple[list[Source], list[Source]]]:
    """Yield the sources with pipes replaced by copies, which are deleted when the block ends."""
    if not any(source.stream for source in sources + valid):
        yield sources, valid
        return
    with workspace(folder) as temporary:
        yield (
            [spool(source, temporary, f"text-{i}", max_bytes) for i, source in enumerate(sources)],
            [spool(source, temporary, f"valid-{i}", max_bytes) for i, source in enumerate(valid)],
        )


def current_key(
    corpora: Sequence[str],
    config: CorpusConfig,
    *,
    vocabulary: Vocabulary | None = None,
    reverse: bool = False,
    progress: Progress | None = None,
) -> str:
    """Return the key of the text as it is now, without encoding it.

    Arguments and errors are those of `load_corpus`. Every source must be present: no pipes, and
    nothing that must be fetched first (`chargen.text.sources.is_local`).
    """
    sources, valid = _resolve_sources(corpora, None, config, [])
    return Builder("", "", sources, valid, config, vocabulary, reverse, 0, progress).key()


def cached_corpus(key: str) -> Corpus | None:
    """Return the corpus that was encoded under `key`, or None if it is not in the cache.

    The key also stands for the direction: a corpus encoded in reverse is returned in reverse.
    """
    if not key.isalnum():  # the key must not lead out of the cache
        return None
    return _open_encoding(cache_folder() / "corpora" / key)


def release_memory(ids: npt.NDArray[Any]) -> None:
    """Release the pages of memory-mapped `ids` that were read; they can be read again.

    Until they are released, pages of a mapped file count as resident memory.
    """
    base: Any = ids
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    if base is not None and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def _cached_or_built(folder: Path, builder: Builder) -> Corpus:
    """Return the corpus from the cache; build it there first if necessary."""
    key = builder.key()
    target = folder / key
    corpus = _open_encoding(target)
    if corpus is None:
        with workspace(folder) as work:
            built = work / key
            built.mkdir()
            builder.build(built)
            if target.exists() and _open_encoding(target) is None:  # damaged
                with contextlib.suppress(FileNotFoundError):  # another run moved it first
                    target.rename(work / "damaged")
            with shared_lock(built):
                publish(built, target)
                corpus = _open_encoding(target)
    elif (limit := builder.config.max_bytes) is not None:  # an earlier run may have had another
        for source in builder.sources + builder.valid:
            for _ in byte_blocks(source, None, limit) if source.path else ():
                pass
    if corpus is None:
        raise CorpusError(f"the encoded corpus {target} cannot be read back; try again")
    builder.check_size(corpus.characters)
    return corpus


def _open_encoding(encoding_folder: Path) -> Corpus | None:
    """Open an encoded corpus; return None unless it is complete and of this format."""
    try:
        meta = json.loads((encoding_folder / META).read_text("utf-8"))
        vocabulary = vocabulary_from_json(meta["vocabulary"])
        split, total = meta["split"], meta["total"]
        path = encoding_folder / IDS
        if (
            meta["format"] != FORMAT
            or not 0 < split <= total
            or path.stat().st_size != total * vocabulary.dtype.itemsize
        ):
            return None
        with path.open("rb") as file:
            lock_shared(file)
            ids = np.memmap(file, dtype=vocabulary.dtype, mode="r")
            if not path.exists():  # removed before it was locked
                return None
        record_use(encoding_folder)
        return Corpus(
            name=meta["name"],
            vocabulary=vocabulary,
            train=ids[:split],
            valid=ids[split:],
            key=encoding_folder.name,
            characters=meta["characters"],
            sources=tuple(meta["sources"]),
            notes=tuple(meta["notes"]),
        )
    except (OSError, ValueError, KeyError, TypeError, VocabularyError):
        return None
