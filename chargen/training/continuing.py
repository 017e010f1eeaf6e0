"""Train a trained model further: in a new run that starts from its weights, or in place.

A run (`chargen train --from`) reads new text and some of the old text, and its vocabulary gains the
characters of the new text. Adapting a model in place changes nothing but its weights.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chargen.errors import ConfigError
from chargen.language_model import LanguageModel
from chargen.lm import recipes
from chargen.lm.config import REPLAY_SHARE, ModelConfig, TrainConfig
from chargen.lm.model import Network
from chargen.lm.recipes import Plan
from chargen.options import check_argument, flag
from chargen.runtime.signals import stop_after_step
from chargen.text.config import CorpusConfig
from chargen.text.corpus import Corpus, load_corpus
from chargen.text.sources import are_tables
from chargen.text.symbols import SEPARATOR
from chargen.text.vocabulary import ByteVocabulary, CharVocabulary, RawVocabulary, Vocabulary
from chargen.training.language_modelling import LanguageModelling
from chargen.training.loop import Loop
from chargen.training.reporting import Reporter

FEWEST_PASSES, MOST_PASSES, DEFAULT_CHARACTERS = 3.0, 20.0, 300_000
"""Fewest and most passes over the new text, and the characters to read, if no budget is given."""

CONTINUED_RATE_FACTOR = 1 / 3
"""Learning rate relative to that of a new model."""

ADAPTATION_RATE_FACTOR = 0.5
"""Learning rate relative to that of a new model if AdamW trains all weights, as in `adapt`."""

MAX_VALIDATION_SYMBOLS = 200_000
"""Most symbols that `adapt` sets aside to measure its progress."""

BLOCK_SYMBOLS = 4096
"""Approximate number of symbols of new text between two pieces of old text."""

NOTED_REPLAY_ODDS = 1.5
"""Factor between the odds of old text and the wanted odds above which a note is added."""

_CHANGEABLE_FIELDS = (
    "vocabulary_size",
    "dropout",
    "embedding_dropout",
    "weight_dropout",
    "variational",
)


@dataclass(frozen=True)
class Start:
    """The model that a run starts from, and the old text that is mixed in."""

    directory: str  # checkpoint of the model
    lm: LanguageModel
    replay: str | None = None  # corpus of the old text
    replay_share: float = REPLAY_SHARE  # share of old text in all text that is read
    requested: CorpusConfig | None = None  # how the user asked to read texts

    def __post_init__(self) -> None:
        check_argument("--replay-share", self.replay_share, float, above=0, below=1)
        object.__setattr__(self, "replay_share", float(self.replay_share))
        if self.replay == "-":
            raise ConfigError("--replay must be a file, a folder or a name, got '-'")

    def model_config(
        self, requested: ModelConfig, given_options: Collection[str] = ()
    ) -> ModelConfig:
        """Return the model's sizes with the dropout rates of `requested`.

        Raises `ConfigError` if `requested` has other sizes. A default counts as asked for only if
        its option is in `given_options`.
        """
        own = self.lm.model.config
        for field in fields(ModelConfig):
            value, known = getattr(requested, field.name), getattr(own, field.name)
            meant = field.name in given_options or value != field.default
            if field.name not in _CHANGEABLE_FIELDS and meant and value not in (None, known):
                raise ConfigError(
                    f"{flag(field)} is fixed by the model ({known}): leave it out with --from"
                )
        return replace(own, **{name: getattr(requested, name) for name in _CHANGEABLE_FIELDS})

    def reading(
        self, requested: CorpusConfig, arguments: Sequence[str], given_options: Collection[str] = ()
    ) -> CorpusConfig:
        """Return how to read the text: `requested`, completed with how the model's text was read.

        Raises `ConfigError` if `requested` contradicts the model.
        """
        trained, level = self.lm.trained_reading, self.lm.vocabulary.level
        if requested.raw_bytes and not self.lm.raw:
            raise ConfigError(
                "--raw-bytes: the model was trained on text; leave it out with --from"
            )
        own = "byte" if self.lm.raw else level
        if requested.level != own and ("level" in given_options or requested.level != "char"):
            raise ConfigError(f"--level is fixed by the model ({own}): leave it out with --from")
        documents, label_column = self.lm.documents_of(requested, arguments)
        reading = replace(
            requested,
            level=own,
            raw_bytes=self.lm.raw,
            documents=requested.documents or documents,
            label_column=label_column,
            clean=requested.clean or trained.get("clean"),
            normalize=requested.normalize or trained.get("normalize"),
        )
        refuse_backward_labels(self.lm.backward, reading)
        return reading

    def corpus(
        self,
        arguments: Sequence[str],
        config: CorpusConfig,
        texts: Iterable[str] | None,
        reporter: Reporter,
    ) -> Corpus:
        """Return the new text in the extended vocabulary, mixed with the old text if any."""
        reverse = self.lm.backward
        text = load_corpus(
            arguments,
            config,
            texts=texts,
            extend_vocabulary=partial(merged_vocabulary, self.lm.vocabulary),
            reverse=reverse,
            progress=reporter.stage,
        )
        if new := text.vocabulary.size - self.lm.vocabulary.size:
            reporter.note(f"{new} symbols are new to the model")
        if self.replay is None:
            return text
        old = load_corpus(
            [self.replay],
            without_validation(replace(config, **self.replay_documents)),
            vocabulary=text.vocabulary,
            reverse=reverse,
            min_characters=1,
        )
        return with_replay(text, old, self.replay_share)

    @cached_property
    def replay_documents(self) -> dict[str, Any]:
        """Fields of `CorpusConfig` for the documents of the old text.

        The other fields are those of the new text, but only one of the two texts may be a table.
        """
        asked, corpora = self.requested or CorpusConfig(), [self.replay or ""]
        plain = replace(asked, documents=None, label_column=None)
        documents, label_column = self.lm.documents_of(plain, corpora)
        if asked.label_column or documents != "rows":  # else as in the training of the model
            if asked.documents == "rows" and not are_tables(corpora, plain):
                documents, label_column = documents or "files", None
            else:
                documents, label_column = asked.documents or documents, asked.label_column
        return {"documents": documents, "label_column": label_column}

    def train_config(self, requested: TrainConfig, characters: int) -> TrainConfig:
        """Return `requested`; if it has no budget, with fewer passes than a new model would get."""
        if (requested.minutes, requested.epochs, requested.steps) != (None, None, None):
            return requested
        passes = min(MOST_PASSES, max(FEWEST_PASSES, DEFAULT_CHARACTERS / characters))
        return replace(requested, epochs=round(passes, 1))

    def plan(self, recipe_plan: Plan, requested: TrainConfig) -> Plan:
        """Return the recipe's plan with the learning rate of a trained model."""
        left_out = "; its counts are left out" if self.lm.counts else ""
        reasons = (
            f"sizes and weights are those of {self.directory}{left_out}",
            *recipe_plan.reasons,
        )
        if requested.learning_rate is not None:
            return replace(recipe_plan, reasons=reasons)
        slow = with_scaled_rate(recipe_plan, CONTINUED_RATE_FACTOR)
        reasons += (f"learning rate {slow.train.learning_rate:.2g}: a third of a new model's",)
        return replace(slow, reasons=reasons)

    def weights(self, vocabulary: Vocabulary) -> dict[str, Tensor]:
        """Return the model's weights with rows for each symbol of an extended vocabulary.

        The rows of a new symbol are the mean of all rows and its bias is the lowest bias: at first
        it is an unlikely symbol of no particular kind.
        """
        old = {symbol: index for index, symbol in enumerate(_symbols(self.lm.vocabulary))}
        origins = torch.tensor([old.get(symbol, -1) for symbol in _symbols(vocabulary)])
        weights = dict(self.lm.model.state_dict())
        by_symbol = ("embedding.weight", "output.weight", "output.bias")
        for name in (name for name in weights if name.endswith(by_symbol)):
            rows = weights[name]
            new = rows.min() if name.endswith("bias") else rows.mean(0)
            known = (origins >= 0).view(-1, *[1] * (rows.dim() - 1))
            weights[name] = torch.where(known, rows[origins.clamp(min=0)], new)
        return weights

    def to_document(self) -> dict[str, Any]:
        """Return what the checkpoint records of the start, besides the corpus."""
        document: dict[str, Any] = {"start_from": self.directory}
        if self.replay:
            document |= {"replay": self.replay, "replay_share": self.replay_share}
            document["replay_documents"] = self.replay_documents
        return document


def refuse_backward_labels(backward: bool, reading: CorpusConfig) -> None:
    """Raise `ConfigError` for labels if the model reads backward: it would read them last."""
    if backward and reading.label_column:
        raise ConfigError("--label-column: a model that reads backward would read the label last")


def read_start(
    directory: str | Path,
    replay: str | Path | None,
    replay_share: float = REPLAY_SHARE,
    requested: CorpusConfig | None = None,
) -> Start:
    """Read the model that a run starts from; raises the errors of `LanguageModel.load`."""
    old = None if replay is None else str(replay)
    lm = LanguageModel.load(directory)
    return Start(str(directory), lm, old, replay_share, requested)


def with_scaled_rate(plan: Plan, factor: float) -> Plan:
    """Return the plan with its learning rate multiplied by `factor`."""
    rate = (plan.train.learning_rate or 0.0) * factor
    return replace(plan, train=replace(plan.train, learning_rate=rate))


def adapt(
    model: Network,
    vocabulary: Vocabulary,
    texts: Sequence[str],
    config: TrainConfig,
    precision: str,
    flops_per_second: float,
    reporter: Reporter,
) -> None:
    """Train a model on texts in place, on the device that holds it (Howard & Ruder 2018).

    The seed decides the order of the texts. Between them is the document separator, or a newline if
    the vocabulary has none. `config` has a budget; the optimizer is always AdamW. `precision` and
    `flops_per_second` are the results of `chargen.runtime.precision.choose_precision`. Raises
    `KeyboardInterrupt` if the user stops the training, before anything is saved.
    """
    between = SEPARATOR if vocabulary.separator_id is not None else "\n"
    order = np.random.default_rng(config.seed).permutation(len(texts))
    ids = vocabulary.encode(between.join(texts[i] for i in order))
    if model.config.direction == "backward":
        ids = np.ascontiguousarray(ids[::-1])
    first = len(ids) - min(MAX_VALIDATION_SYMBOLS, len(ids) // 20)
    config = replace(config, optimizer="adamw")
    plan = with_scaled_rate(
        recipes.plan(model.config, config, first, flops_per_second), ADAPTATION_RATE_FACTOR
    )
    start = vocabulary.start_id
    task = LanguageModelling(model, plan, ids[:first], ids[first:], start, precision)
    loop = Loop(task, lambda _: None, reporter)
    torch.manual_seed(config.seed)
    try:
        with stop_after_step(loop):
            loop.run()
    finally:
        reporter.close()
    if not loop.finished:
        reporter.note("stopped while adapting: nothing has been saved")
        raise KeyboardInterrupt
    if loop.best:
        model.load_state_dict(loop.best)


def merged_vocabulary(old: Vocabulary, new: Vocabulary) -> Vocabulary:
    """Return the union of two vocabularies of the same level; ids of the old one may change."""
    documents = old.separator_id is not None or new.separator_id is not None
    if isinstance(old, RawVocabulary):
        return RawVocabulary(documents)
    labels = sorted({*old.labels, *new.labels})
    if isinstance(old, CharVocabulary) and isinstance(new, CharVocabulary):
        characters = "".join(sorted({*old.characters, *new.characters}))
        return CharVocabulary(characters, documents, old.to_json()["start"], labels)
    return ByteVocabulary(documents, labels)


def without_validation(config: CorpusConfig) -> CorpusConfig:
    """Return the configuration for old text, none of which is for validation."""
    return replace(config, valid=None, valid_fraction=0.0)


def with_replay(text: Corpus, old: Corpus, share: float) -> Corpus:
    """Return `text` with pieces from all over `old` mixed in; the result is held in memory.

    A note is added if the share of old text differs much from `share`.
    """
    train = interleave(text.train, old.train, share, text.vocabulary.separator_id)
    notes = [*text.notes, *old.notes]
    mixed = 1 - len(text.train) / len(train)
    odds_ratio = mixed / (1 - mixed) * (1 - share) / share
    if not 1 / NOTED_REPLAY_ODDS < odds_ratio < NOTED_REPLAY_ODDS:
        reason = "its documents are read whole" if odds_ratio > 1 else "there is little of it"
        notes.append(f"old text is {mixed:.1%} of what is read, not {share:.1%}: {reason}")
    return replace(text, train=train, notes=tuple(notes), replay_key=old.key)


def interleave(
    new: NDArray[Any], old: NDArray[Any], share: float, separator: int | None
) -> NDArray[Any]:
    """Return `new` as consecutive blocks, each followed by a piece of `old`.

    The pieces start at equal distances. If there is a separator, blocks and pieces end with a
    document.
    """
    count = max(1, len(new) // BLOCK_SYMBOLS)
    length = round(len(new) * share / (1 - share) / count)
    ends = _after_separators(
        new, np.linspace(0, len(new), count + 1).astype(np.int64)[1:], separator
    )
    begins = np.linspace(0, max(0, len(old) - length), count).astype(np.int64)
    begins, stops = (
        _after_separators(old, begins, separator),
        _after_separators(old, begins + length, separator),
    )
    parts, start = [], 0
    for end, first, last in zip(ends, begins, stops, strict=True):
        parts += [new[start:end], old[first:last]]
        start = end
    return np.concatenate(parts)


def _after_separators(
    ids: NDArray[Any], positions: NDArray[np.int64], separator: int | None
) -> NDArray[np.int64]:
    """Move each position except 0 to just after the next separator, or else to the end."""
    if separator is None:
        return np.minimum(positions, len(ids))
    ends = np.append(np.flatnonzero(np.asarray(ids) == separator) + 1, len(ids))
    moved: NDArray[np.int64] = ends[np.minimum(np.searchsorted(ends, positions), len(ends) - 1)]
    return np.where(positions == 0, 0, moved)


def _symbols(vocabulary: Vocabulary) -> list[tuple[str, str | int]]:
    """Return the symbol of each id, as its kind and its identity within that kind."""
    ends = [] if vocabulary.separator_id is None else [("separator", 0)]
    labels = [("label", name) for name in vocabulary.labels]
    if isinstance(vocabulary, CharVocabulary):
        characters = [("character", character) for character in vocabulary.characters]
        return [("unknown", 0), *ends, *characters, *labels]
    return [*(("byte", number) for number in range(256)), *ends, *labels]
