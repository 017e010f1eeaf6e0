"""The text of a run, the same on every rank."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chargen.errors import CorpusError
from chargen.lm import storage
from chargen.runtime.distributed import Ranks
from chargen.text.config import CorpusConfig
from chargen.text.corpus import Corpus, cached_corpus, current_key, load_corpus
from chargen.text.sources import is_there
from chargen.text.vocabulary import Vocabulary
from chargen.training.reporting import Reporter


def corpus_on_all_ranks(
    ranks: Ranks, load: Callable[[], Corpus], saved: dict[str, Any], reverse: bool
) -> Corpus:
    """The corpus that rank 0 loads, on each rank: through the cache, or encoded once a machine.

    `saved` has its "arguments" and its "config", `reverse` says whether the ids are those of the
    text read backward. Raises `CorpusError` where a rank finds another text than rank 0 did.
    """
    loaded: list[Corpus] = []

    def first() -> str:
        loaded.append(load())
        return loaded[0].key

    found = {**saved, "key": ranks.shared(first)}
    return ranks.in_turn(
        lambda: loaded[0] if loaded else corpus_again("rank 0", found, reverse, Reporter())
    )


def corpus_resumed(
    directory: str,
    saved: dict[str, Any],
    reverse: bool,
    reporter: Reporter,
    vocabulary: Vocabulary | None = None,
) -> Corpus:
    """The text that a run began with; see `chargen.resume` on one that was edited.

    Where the run began with a trained model, its text may have been encoded with the `vocabulary`.
    """
    names, config = saved["arguments"], saved_config(directory, saved)
    gone = [] if names else ["the given text"]
    gone += [name for name in (*names, config.valid) if name is not None and not is_there(name)]
    if gone and (text := cached_corpus(saved["key"])):
        shown = ", ".join("standard input" if name == "-" else name for name in gone)
        reporter.note(f"{shown} cannot be read again: its encoding in the cache is used")
        return text
    if not gone:
        options: dict[str, Any] = {"reverse": reverse, "progress": reporter.stage}
        keys = {current_key(names, config, vocabulary=v, **options): v for v in {vocabulary, None}}
        if saved["key"] not in keys:
            raise _changed(directory, saved)
        vocabulary = keys[saved["key"]]
    return corpus_again(directory, saved, reverse, reporter, vocabulary)


def corpus_again(
    where: str,
    saved: dict[str, Any],
    reverse: bool,
    reporter: Reporter,
    vocabulary: Vocabulary | None = None,
) -> Corpus:
    """The corpus of a run that has begun: its encoding if that is here, or built again."""
    text = cached_corpus(saved["key"])
    if text is not None:
        return text
    if not saved["arguments"] or "-" in saved["arguments"]:
        origin = "a pipe" if saved["arguments"] else "Python"
        raise CorpusError(
            f"the text that {where} was reading came from {origin} and is no longer in the cache"
        )
    text = load_corpus(
        saved["arguments"],
        saved_config(where, saved),
        vocabulary=vocabulary,
        reverse=reverse,
        minimum=1,  # it was enough when the run began
        progress=reporter.stage,
    )
    if text.key != saved["key"]:
        raise _changed(where, saved)
    return text


def saved_config(where: str, saved: dict[str, Any]) -> CorpusConfig:
    """How the corpus of a run was read."""
    config = {"valid_of_each": False, **saved["config"]}  # runs of earlier versions
    return storage.config_from_json(CorpusConfig, config, f"{where}: corpus of config.json")


def _changed(where: str, saved: dict[str, Any]) -> CorpusError:
    return CorpusError(
        f"the corpus of {where} ({', '.join(saved['arguments'])}) has changed since: "
        "a run can only go on with the same text"
    )
