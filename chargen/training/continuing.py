"""A trained model goes on learning: a run that begins with its weights, or texts it reads in place.

A run (`chargen train --from`) has new text and some of the old, and the vocabulary grows by the
characters of the new; a model that is adapted in place stays all that it is but its weights.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
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
from chargen.options import flag
from chargen.runtime.signals import stopping_softly
from chargen.text.config import CorpusConfig
from chargen.text.corpus import Corpus, load_corpus
from chargen.text.symbols import SEPARATOR
from chargen.text.vocabulary import ByteVocabulary, CharVocabulary, RawVocabulary, Vocabulary
from chargen.training.language_modelling import LanguageModelling
from chargen.training.loop import Loop
from chargen.training.reporting import Reporter

FEWEST_PASSES, MOST_PASSES, ENOUGH = 3.0, 20.0, 300_000
"""Passes over the new text, and the characters that are read in them, where no budget is given."""

SLOWER = 1 / 3
"""Of the rate that a new model would have."""

GENTLE = 0.5
"""The same where AdamW alone learns, as it does where a model is adapted in place."""

MOST_VALIDATION = 200_000
"""Symbols kept to see whether reading in place helps."""

BLOCK = 4096
"""Symbols of new text between two pieces of old text, about."""

_RATES = ("vocabulary_size", "dropout", "embedding_dropout", "weight_dropout", "variational")


@dataclass(frozen=True)
class Start:
    """What a run begins with."""

    directory: str  # of the model
    lm: LanguageModel
    replay: str | None = None  # corpus of old text that is mixed in
    replay_share: float = REPLAY_SHARE  # of all that is read

    def __post_init__(self) -> None:
        if not 0 < self.replay_share < 1:
            raise ConfigError(
                f"--replay-share must be above 0 and below 1, got {self.replay_share}"
            )
        if self.replay == "-":
            raise ConfigError("--replay must be a file, a folder or a name, got '-'")

    def model_config(self, asked: ModelConfig, named: Collection[str] = ()) -> ModelConfig:
        """The model's sizes with the rates of dropout that are asked for.

        Other sizes are a `ConfigError`; defaults too, where the options `named` have them.
        """
        own = self.lm.model.config
        for field in fields(ModelConfig):
            value, known = getattr(asked, field.name), getattr(own, field.name)
            meant = field.name in named or value != field.default
            if field.name not in _RATES and meant and value not in (None, known):
                raise ConfigError(
                    f"{flag(field)} is fixed by the model ({known}): leave it out with --from"
                )
        return replace(own, **{name: getattr(asked, name) for name in _RATES})

    def reading(
        self, asked: CorpusConfig, arguments: Sequence[str], named: Collection[str] = ()
    ) -> CorpusConfig:
        """How the text is read: as asked, else as the model's was where that matters."""
        trained, level = self.lm.trained_reading, self.lm.vocabulary.level
        if asked.raw_bytes and not self.lm.raw:
            raise ConfigError("--raw-bytes: the model learnt text; leave it out with --from")
        own = "byte" if self.lm.raw else level
        if asked.level != own and ("level" in named or asked.level != "char"):
            raise ConfigError(f"--level is fixed by the model ({own}): leave it out with --from")
        documents, label_column = self.lm.documents_of(asked, arguments)
        if asked.documents not in (None, "rows"):
            label_column = asked.label_column
        reading = replace(
            asked,
            level=own,
            raw_bytes=self.lm.raw,
            documents=asked.documents or documents,
            label_column=label_column,
            clean=asked.clean or trained.get("clean"),
            normalize=asked.normalize or trained.get("normalize"),
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
        """The new text in the grown vocabulary, with old text among it."""
        reverse = self.lm.backward
        found = load_corpus(
            arguments,
            config,
            texts=texts,
            grow=partial(grown, self.lm.vocabulary),
            reverse=reverse,
            progress=reporter.stage,
        )
        if new := found.vocabulary.size - self.lm.vocabulary.size:
            reporter.note(f"{new} symbols are new to the model")
        if self.replay is None:
            return found
        old = old_text(self.replay, config, found.vocabulary, reverse)
        return mixed(found, old, self.replay_share)

    def train_config(self, asked: TrainConfig, characters: int) -> TrainConfig:
        """With fewer passes than a new model would have, where no budget is given."""
        if (asked.minutes, asked.epochs, asked.steps) != (None, None, None):
            return asked
        passes = min(MOST_PASSES, max(FEWEST_PASSES, ENOUGH / characters))
        return replace(asked, epochs=round(passes, 1))

    def plan(self, made: Plan, asked: TrainConfig) -> Plan:
        """The recipe's choices for a model that is not new."""
        left_out = "; its counts are left out" if self.lm.counts else ""
        reasons = (f"sizes and weights are those of {self.directory}{left_out}", *made.reasons)
        if asked.learning_rate is not None:
            return replace(made, reasons=reasons)
        slow = slowed(made, SLOWER)
        reasons += (f"learning rate {slow.train.learning_rate:.2g}: a third of a new model's",)
        return replace(slow, reasons=reasons)

    def weights(self, vocabulary: Vocabulary) -> dict[str, Tensor]:
        """The model's weights with rows for a grown vocabulary.

        A new symbol's rows are the mean of all, and its bias is the lowest: it begins as a symbol
        of no particular kind that is unlikely.
        """
        old = {symbol: place for place, symbol in enumerate(_symbols(self.lm.vocabulary))}
        origins = torch.tensor([old.get(symbol, -1) for symbol in _symbols(vocabulary)])
        found = dict(self.lm.model.state_dict())
        by_symbol = ("embedding.weight", "output.weight", "output.bias")
        for name in (name for name in found if name.endswith(by_symbol)):
            rows = found[name]
            new = rows.min() if name.endswith("bias") else rows.mean(0)
            known = (origins >= 0).view(-1, *[1] * (rows.dim() - 1))
            found[name] = torch.where(known, rows[origins.clamp(min=0)], new)
        return found

    def saved(self) -> dict[str, Any]:
        """What the checkpoint says of the run's beginning, beside its corpus."""
        replay = {"replay": self.replay, "replay_share": self.replay_share} if self.replay else {}
        return {"start_from": self.directory, **replay}


def refuse_backward_labels(backward: bool, reading: CorpusConfig) -> None:
    """Refuse labels for a model that reads from the end of a text: it would meet them last."""
    if backward and reading.label_column:
        raise ConfigError("--label-column: a model that reads backward would read it last")


def read_start(
    directory: str | Path, replay: str | Path | None, replay_share: float = REPLAY_SHARE
) -> Start:
    """Read the model that a run begins with; its errors are those of `LanguageModel.load`."""
    old = None if replay is None else str(replay)
    return Start(str(directory), LanguageModel.load(directory), old, replay_share)


def slowed(plan: Plan, share: float) -> Plan:
    """The plan with this share of its learning rate."""
    rate = (plan.train.learning_rate or 0.0) * share
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
    """Let a model on its device read texts, and change it in place (Howard & Ruder 2018).

    The texts are read in an order of the seed, apart where the vocabulary has a symbol for it.
    `config` has a budget; the optimizer is AdamW. `precision` and `flops_per_second` are as
    `chargen.runtime.precision.choose_precision` found them. Raises `KeyboardInterrupt` where the
    user stopped it: nothing has been saved by then.
    """
    between = SEPARATOR if vocabulary.separator_id is not None else "\n"
    order = np.random.default_rng(config.seed).permutation(len(texts))
    ids = vocabulary.encode(between.join(texts[i] for i in order))
    if model.config.direction == "backward":
        ids = np.ascontiguousarray(ids[::-1])
    first = len(ids) - min(MOST_VALIDATION, len(ids) // 20)
    config = replace(config, optimizer="adamw")
    plan = slowed(recipes.plan(model.config, config, first, flops_per_second), GENTLE)
    start = vocabulary.start_id
    task = LanguageModelling(model, plan, ids[:first], ids[first:], start, precision)
    loop = Loop(task, lambda _: None, reporter)
    torch.manual_seed(config.seed)
    try:
        with stopping_softly(loop):
            loop.run()
    finally:
        reporter.close()
    if not loop.finished:
        reporter.note("stopped while adapting: nothing has been saved")
        raise KeyboardInterrupt
    if loop.best:
        model.load_state_dict(loop.best)


def grown(old: Vocabulary, new: Vocabulary) -> Vocabulary:
    """The symbols of both, which are of one level; ids of the old one move."""
    documents = old.separator_id is not None or new.separator_id is not None
    if isinstance(old, RawVocabulary):
        return RawVocabulary(documents)
    labels = sorted({*old.labels, *new.labels})
    if isinstance(old, CharVocabulary) and isinstance(new, CharVocabulary):
        characters = "".join(sorted({*old.characters, *new.characters}))
        return CharVocabulary(characters, documents, old.to_json()["start"], labels)
    return ByteVocabulary(documents, labels)


def whole(config: CorpusConfig) -> CorpusConfig:
    """How old text is read: as the new one, and nothing of it validates."""
    return replace(config, valid=None, valid_fraction=0.0)


def old_text(replay: str, config: CorpusConfig, vocabulary: Vocabulary, reverse: bool) -> Corpus:
    """The text that is mixed into one that was read with `config`."""
    return load_corpus([replay], whole(config), vocabulary=vocabulary, reverse=reverse, minimum=1)


def mixed(text: Corpus, old: Corpus, share: float) -> Corpus:
    """The text with pieces of an old one among it, from all over that, in memory."""
    train = interleaved(text.train, old.train, share, text.vocabulary.separator_id)
    return replace(text, train=train, notes=(*text.notes, *old.notes), replay_key=old.key)


def interleaved(
    new: NDArray[Any], old: NDArray[Any], share: float, separator: int | None
) -> NDArray[Any]:
    """Blocks of `new`, all of it in its order, each with a piece of `old` behind it.

    Pieces begin at even distances. Where documents are apart, blocks and pieces end with one.
    """
    count = max(1, len(new) // BLOCK)
    length = round(len(new) * share / (1 - share) / count)
    ends = _ends(new, np.linspace(0, len(new), count + 1).astype(np.int64)[1:], separator)
    begins = np.linspace(0, max(0, len(old) - length), count).astype(np.int64)
    begins, stops = _ends(old, begins, separator), _ends(old, begins + length, separator)
    parts, done = [], 0
    for end, first, last in zip(ends, begins, stops, strict=True):
        parts += [new[done:end], old[first:last]]
        done = end
    return np.concatenate(parts)


def _ends(ids: NDArray[Any], places: NDArray[np.int64], separator: int | None) -> NDArray[np.int64]:
    """The places, each but 0 moved to behind the next separator, or to the end."""
    if separator is None:
        return np.minimum(places, len(ids))
    found = np.append(np.flatnonzero(np.asarray(ids) == separator) + 1, len(ids))
    moved: NDArray[np.int64] = found[np.minimum(np.searchsorted(found, places), len(found) - 1)]
    return np.where(places == 0, 0, moved)


def _symbols(vocabulary: Vocabulary) -> list[tuple[str, str | int]]:
    """What each id stands for: its kind, and which of them it is."""
    ends = [] if vocabulary.separator_id is None else [("separator", 0)]
    labels = [("label", name) for name in vocabulary.labels]
    if isinstance(vocabulary, CharVocabulary):
        characters = [("character", one) for one in vocabulary.characters]
        return [("unknown", 0), *ends, *characters, *labels]
    return [*(("byte", number) for number in range(256)), *ends, *labels]
