"""Load the corpus of a run, identical on every rank."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chargen.errors import CorpusError
from chargen.lm import storage
from chargen.runtime.distributed import Ranks
from chargen.text.config import CorpusConfig
from chargen.text.corpus import Corpus, cached_corpus, current_key, load_corpus
from chargen.text.sources import is_local
from chargen.text.vocabulary import Vocabulary
from chargen.training.reporting import Reporter


def corpus_on_all_ranks(
    ranks: Ranks,
    load: Callable[[], Corpus],
    saved: dict[str, Any],
    reverse: bool,
    vocabulary: Vocabulary | None = None,
) -> Corpus:
    """Return on every rank the corpus that rank 0 loads.

    The other ranks read it from the cache, or encode it once per machine. It may have been encoded
    with `vocabulary`, if given. `saved` has the entries "arguments" and "config"; `reverse` says
    whether the ids are those of the text read backward. Raises `CorpusError` if the text of a rank
    differs from that of rank 0.
    """
    loaded: list[Corpus] = []

    def first() -> str:
        loaded.append(load())
        return loaded[0].key

    document = {**saved, "key": ranks.broadcast(first)}

    def load_same() -> Corpus:
        if loaded:
            return loaded[0]
        # Only `resumed_corpus` finds out whether the text was encoded with `vocabulary`.
        reload = reload_corpus if vocabulary is None else resumed_corpus
        return reload("rank 0", document, reverse, Reporter(), vocabulary)

    return ranks.local_main_first(load_same)


def resumed_corpus(
    directory: str,
    saved: dict[str, Any],
    reverse: bool,
    reporter: Reporter,
    vocabulary: Vocabulary | None = None,
) -> Corpus:
    """Return the corpus of a run that is resumed; `chargen.resume` says when it is refused.

    If the run started from a trained model, its text may have been encoded with `vocabulary`.
    """
    names, config = saved["arguments"], saved_config(directory, saved)
    gone = [] if names else ["the given text"]
    gone += [name for name in (*names, config.valid) if name is not None and not is_local(name)]
    if gone and (text := cached_corpus(saved["key"])):
        shown = ", ".join("standard input" if name == "-" else name for name in gone)
        reporter.note(f"{shown} cannot be read again: its encoding in the cache is used")
        return text
    if not gone:
        options: dict[str, Any] = {"reverse": reverse, "progress": reporter.stage}
        keys = {current_key(names, config, vocabulary=v, **options): v for v in {vocabulary, None}}
        if saved["key"] not in keys:
            raise _changed_error(directory, saved)
        vocabulary = keys[saved["key"]]
    return reload_corpus(directory, saved, reverse, reporter, vocabulary)


def reload_corpus(
    run_name: str,
    saved: dict[str, Any],
    reverse: bool,
    reporter: Reporter,
    vocabulary: Vocabulary | None = None,
) -> Corpus:
    """Return the corpus of a run that has begun: from the cache, or encoded again."""
    text = cached_corpus(saved["key"])
    if text is not None:
        return text
    if not saved["arguments"] or "-" in saved["arguments"]:
        origin = "a pipe" if saved["arguments"] else "Python"
        raise CorpusError(
            f"the text that {run_name} was reading came from {origin} and is no longer in the cache"
        )
    text = load_corpus(
        saved["arguments"],
        saved_config(run_name, saved),
        vocabulary=vocabulary,
        reverse=reverse,
        min_characters=1,  # it was long enough when the run began
        progress=reporter.stage,
    )
    if text.key != saved["key"]:
        raise _changed_error(run_name, saved)
    return text


def saved_config(run_name: str, saved: dict[str, Any]) -> CorpusConfig:
    """Return the configuration with which the corpus of a run was read."""
    where = f"{run_name}: corpus of config.json"
    return storage.config_from_json(CorpusConfig, saved["config"], where)


def _changed_error(run_name: str, saved: dict[str, Any]) -> CorpusError:
    return CorpusError(
        f"the corpus of {run_name} ({', '.join(saved['arguments'])}) has changed since: "
        "a run can only continue with the same text"
    )
