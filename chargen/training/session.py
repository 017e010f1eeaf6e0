"""What a training run is made of: text, loop and checkpoint, which is written and read again."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from chargen.errors import CheckpointError, brief
from chargen.language_model import LanguageModel
from chargen.lm import recipes, storage
from chargen.lm.config import TrainConfig
from chargen.lm.evaluation import bits
from chargen.lm.model import CharLM
from chargen.runtime.device import versions
from chargen.runtime.distributed import Ranks
from chargen.runtime.signals import stopping_softly
from chargen.storage import checkpoint
from chargen.text.corpus import Corpus, release_memory
from chargen.text.vocabulary import Vocabulary
from chargen.training.corpora import corpus_on_all_ranks, corpus_resumed
from chargen.training.language_modelling import LanguageModelling
from chargen.training.loop import Loop
from chargen.training.reporting import Log, Reporter
from chargen.training.task import LARGEST, Tensors

SAMPLE_CHARACTERS = 200


@dataclass(frozen=True)
class Run:
    """What a training run came to.

    Attributes
    ----------
    directory : Path
        The checkpoint.
    steps : int
    seconds : float
        In the training loop.
    valid_nats, valid_bits : float or None
        Of the best weights, per character; None without validation text.
    finished : bool
        False where it was interrupted: `resume` goes on.
    sample : str
        Text drawn from the best weights.
    """

    directory: Path
    steps: int
    seconds: float
    valid_nats: float | None
    valid_bits: float | None
    finished: bool
    sample: str


@dataclass
class Session:
    """The parts of a run that are settled before its sizes are."""

    directory: Path  # where the checkpoint goes
    text: Corpus
    device: torch.device
    ranks: Ranks
    reporter: Reporter
    log: Log  # of what was done before, and then of all
    documents: dict[str, Any]  # what the checkpoint says of "corpus", "plan" and "precision"

    def loop(self, plan: recipes.Plan) -> Loop[LanguageModelling]:
        """A loop over a model with fresh weights, whose checkpoints go to `directory`."""
        task = LanguageModelling(
            CharLM(plan.model).to(self.device),
            plan,
            self.text.train,
            self.text.valid,
            self.text.vocabulary.start_id,
            self.documents["precision"],
            (lambda model: self._draw(model, plan.train.seed)) if plan.train.samples else None,
            self.ranks,
            self.text.vocabulary.separator_id,
            self.text.vocabulary.first_label_id if self.text.vocabulary.labels else None,
        )
        return Loop(task, self._save, self.reporter, self.log)

    def run(self, loop: Loop[LanguageModelling]) -> Run:
        """Train, and tell what came of it.

        Raises `TrainingError` where the loss stays without a number, or a rank stops answering.
        """
        try:
            with stopping_softly(loop), self.ranks.watching(lambda: self._kept(loop)):
                loop.run()
        finally:
            self.reporter.close()
        return self.outcome(loop)

    def _kept(self, loop: Loop[LanguageModelling]) -> str:
        step = loop.saved_step
        if not step:
            return "no checkpoint had been written"
        # Rank 0 may have written one more before the others heard of it.
        with contextlib.suppress(CheckpointError):
            stored = checkpoint.load(self.directory, storage.KIND, training=True)
            step = stored.document("training/state")["progress"]["step"]
        return (
            f"the last good checkpoint, step {step}, is kept in {self.directory}: "
            f"go on with chargen train --resume {self.directory}"
        )

    def outcome(self, loop: Loop[LanguageModelling]) -> Run:
        """What the run came to; rank 0 draws the sample."""
        return self.ranks.shared(lambda: self._outcome(loop))

    def _outcome(self, loop: Loop[LanguageModelling]) -> Run:
        if loop.best:
            loop.task.model.load_state_dict(loop.best)
        nats = self._per_character(loop.task.progress.figure)
        return Run(
            self.directory,
            loop.progress.step,
            loop.progress.seconds,
            nats,
            None if nats is None else bits(nats),
            loop.finished,
            self._draw(loop.task.model.eval(), loop.task.config.seed),
        )

    @cached_property
    def _symbols_a_character(self) -> float:
        vocabulary, valid = self.text.vocabulary, self.text.valid
        return vocabulary.count_predicted(valid) / vocabulary.count_characters(valid)

    def _per_character(self, nats: float | None) -> float | None:
        """Nats per symbol as nats per character: a character may be several bytes."""
        if nats is None or not len(self.text.valid):
            return None
        return nats * self._symbols_a_character

    def _draw(self, model: CharLM, seed: int) -> str:
        lm = LanguageModel(model, self.text.vocabulary)
        label = next(iter(lm.vocabulary.labels), None)
        if not lm.can_write:
            return ""
        return lm.generate(max_chars=SAMPLE_CHARACTERS, seed=seed, label=label)

    def _save(self, loop: Loop[LanguageModelling]) -> None:
        document, tensors = loop.state()  # every rank has a part of it
        self.ranks.shared(lambda: self._write(loop, document, tensors))
        release_memory(self.text.train)
        release_memory(self.text.valid)

    def _write(
        self, loop: Loop[LanguageModelling], document: dict[str, Any], tensors: Tensors
    ) -> None:
        task = loop.task
        weights = loop.best or dict(task.model.state_dict())
        stored = storage.pack(task.plan.model, weights, self.text.vocabulary)
        nats = self._per_character(task.progress.figure)
        stored.documents["config"] |= {
            "train": asdict(task.config),
            **self.documents,
            "results": {
                "steps": task.progress.step,
                "best_step": task.progress.best_step,
                "seconds": task.progress.seconds,
                "characters_read": task.progress.characters,
                "valid_nats_per_char": nats,
                "valid_bits_per_char": None if nats is None else bits(nats),
                "finished": loop.finished,
            },
            "versions": versions(),
        }
        stored.keep_training(document, tensors)
        checkpoint.save(self.directory, stored, metrics=self.log.lines)


@dataclass(frozen=True)
class SavedRun:
    """A run that can go on."""

    directory: Path
    stored: checkpoint.Checkpoint
    config: TrainConfig
    model: CharLM  # with the best weights so far
    vocabulary: Vocabulary

    @property
    def documents(self) -> dict[str, Any]:
        """What a later checkpoint repeats: "corpus", "plan" and "precision"."""
        config = self.stored.document("config")
        return {name: config[name] for name in ("corpus", "plan", "precision")}

    @property
    def state(self) -> dict[str, Any]:
        """Where the loop stood."""
        return self.stored.document("training/state")

    @property
    def plan(self) -> recipes.Plan:
        """The choices of the run."""
        saved = self.documents["plan"]
        return recipes.Plan(
            self.model.config, self.config, saved["reading"], tuple(saved["reasons"])
        )

    def text(self, ranks: Ranks, reporter: Reporter) -> Corpus:
        """The corpus of the run, on each rank.

        Raises `CorpusError` where it cannot be read any more, or has changed; `CheckpointError`
        where it cannot be that of the run.
        """
        where, saved = str(self.directory), self.documents["corpus"]
        reverse = self.model.config.direction == "backward"
        text = corpus_on_all_ranks(
            ranks, lambda: corpus_resumed(where, saved, reverse, reporter), saved, reverse
        )
        if text.vocabulary != self.vocabulary:
            raise CheckpointError(f"{where}: vocabulary.json is not that of the corpus")
        streams = self.config.batch_size or 0
        if not 0 < 2 * streams <= len(text.train):
            raise CheckpointError(
                f"{where}: config.json: train.batch_size is {brief(self.config.batch_size)}, and "
                f"the text has {len(text.train):,} symbols"
            )
        return text


def read_run(directory: Path) -> SavedRun:
    """Read the checkpoint of a run.

    Raises `CheckpointError` where there is no run to go on with.
    """
    stored = checkpoint.load(directory, storage.KIND, training=True)
    settings = stored.document("config").get("train")
    if "training/state" not in stored.documents:
        raise CheckpointError(f"{directory} holds no training state: it cannot be resumed")
    with storage.fitting(directory):
        _check(stored.document("config"), stored.document("training/state"))
    if isinstance(settings, dict):  # runs of earlier versions, which knew less
        settings = {"optimizer": "adamw", "shuffle_documents": False, **settings}
    config = storage.config_from_json(TrainConfig, settings, f"{directory}: config.json")
    return SavedRun(directory, stored, config, *storage.unpack(stored))


def _check(config: dict[str, Any], state: dict[str, Any]) -> None:
    """Raise where what a run needs to go on is missing or of another type."""
    corpus, plan = config["corpus"], config["plan"]
    fields: dict[str, tuple[Any, Any]] = {
        "corpus.arguments": (corpus["arguments"], list),
        "corpus.config": (corpus["config"], dict),
        "corpus.key": (corpus["key"], str),
        "plan.reading": (plan["reading"], (int, float)),
        "plan.reasons": (plan["reasons"], list),
        "progress": (state["progress"], dict),
        "progress.step": (state["progress"]["step"], int),
        "streams": (state["streams"], dict),
        "ranks": (state.get("ranks", 1), int),
    }
    for name, (value, kind) in fields.items():
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{name} is {brief(value)}")
    if not all(isinstance(name, str) for name in corpus["arguments"]):
        raise ValueError("corpus.arguments are not names")
    if not 0 < plan["reading"] < LARGEST:
        raise ValueError(f"plan.reading is {brief(plan['reading'])}")
    if config["precision"] not in ("float32", "bfloat16"):
        raise ValueError(f"precision is {brief(config['precision'])}")
