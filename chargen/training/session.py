"""The parts of a training run held together: model, trainer, checkpoint, and what is told."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from chargen.errors import CheckpointError
from chargen.language_model import LanguageModel
from chargen.lm import recipes, storage
from chargen.lm.config import ModelConfig, TrainConfig, settled
from chargen.lm.evaluation import bits
from chargen.lm.model import CharLM
from chargen.runtime.device import choose_device, set_threads, versions
from chargen.runtime.distributed import Ranks
from chargen.runtime.precision import (
    REFERENCE_FLOPS,
    PrecisionChoice,
    asked_precision,
    choose_precision,
    reference_step,
)
from chargen.runtime.signals import stopping_softly
from chargen.storage import checkpoint
from chargen.text.corpus import Corpus, release_memory
from chargen.text.vocabulary import Vocabulary
from chargen.training.progress import Progress
from chargen.training.reporting import Log, Reporter
from chargen.training.trainer import Trainer

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
    """The parts of a run that are settled before its sizes are.

    Attributes
    ----------
    directory : Path
        Where the checkpoint goes.
    text : Corpus
    vocabulary : Vocabulary
    device : torch.device
    precision : PrecisionChoice
    reporter : Reporter
    ranks : Ranks
    log : Log
        Of what was done before, and then of all.
    """

    directory: Path
    text: Corpus
    vocabulary: Vocabulary
    device: torch.device
    precision: PrecisionChoice
    reporter: Reporter
    ranks: Ranks
    log: Log

    @classmethod
    def prepare(
        cls, directory: Path, text: Corpus, reporter: Reporter, config: TrainConfig, ranks: Ranks
    ) -> Session:
        """Settle device and precision; the stopwatch of rank 0 counts for all."""
        device = device_of(config, ranks)
        requested = asked_precision(config.precision, config.deterministic)
        precision = ranks.shared(
            lambda: choose_precision(requested, device, reference_step(device))
        )
        return cls(directory, text, text.vocabulary, device, precision, reporter, ranks, Log())

    def plan(self, model_config: ModelConfig, train_config: TrainConfig) -> recipes.Plan:
        """Every choice that was left open, made on rank 0 for all."""
        speed = self.ranks.size * REFERENCE_FLOPS / self.precision.seconds_per_step

        def choose() -> recipes.Plan:
            plan = recipes.plan(model_config, train_config, len(self.text.train), speed)
            self.ranks.columns(settled(plan.train.batch_size))  # refuses too few
            return plan

        return self.ranks.shared(choose)

    @property
    def precision_note(self) -> str:
        """What the precision is and why, for people."""
        return f"{self.precision.name}: {self.precision.reason}"

    def trainer(self, plan: recipes.Plan, saved: dict[str, Any]) -> Trainer:
        """A trainer whose checkpoints also hold the documents `saved`."""

        def save(trainer: Trainer) -> None:
            self._save(trainer, saved)

        model = CharLM(plan.model).to(self.device)
        return Trainer(
            model,
            plan,
            self.text.train,
            self.text.valid,
            self.vocabulary.start_id,
            self.precision.name,
            save,
            (lambda model: self._draw(model, plan.train.seed)) if plan.train.samples else None,
            self.reporter,
            self.ranks,
            self.log,
        )

    def run(self, trainer: Trainer) -> Run:
        """Train, and tell what came of it.

        Raises
        ------
        TrainingError
            Where the loss stays without a number, or a rank stops answering.
        """
        try:
            with stopping_softly(trainer), self.ranks.watching(lambda: self._kept(trainer)):
                trainer.run()
        finally:
            self.reporter.close()
        return self.outcome(trainer)

    def _kept(self, trainer: Trainer) -> str:
        step = trainer.saved_step
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

    def outcome(self, trainer: Trainer) -> Run:
        """What the run came to; rank 0 draws the sample."""
        return self.ranks.shared(lambda: self._outcome(trainer))

    def _outcome(self, trainer: Trainer) -> Run:
        if trainer.best:
            trainer.model.load_state_dict(trainer.best)
        nats = self._per_character(_figure(trainer.progress))
        return Run(
            self.directory,
            trainer.progress.step,
            trainer.progress.seconds,
            nats,
            None if nats is None else bits(nats),
            trainer.finished,
            self._draw(trainer.model.eval(), trainer.config.seed),
        )

    @cached_property
    def _valid_characters(self) -> int:
        return self.vocabulary.count_characters(self.text.valid)

    def _per_character(self, nats: float | None) -> float | None:
        """Nats per symbol as nats per character: a character may be several bytes."""
        if nats is None or not len(self.text.valid):
            return None
        symbols = len(self.text.valid)
        return nats * symbols / self._valid_characters

    def _draw(self, model: CharLM, seed: int) -> str:
        lm = LanguageModel(model, self.vocabulary)
        if not lm.can_write:
            return ""
        return lm.generate(max_chars=SAMPLE_CHARACTERS, seed=seed)

    def _save(self, trainer: Trainer, saved: dict[str, Any]) -> None:
        document, tensors = trainer.training_state()  # every rank has a part of it
        self.ranks.shared(lambda: self._write(trainer, saved, document, tensors))
        release_memory(self.text.train)
        release_memory(self.text.valid)

    def _write(
        self,
        trainer: Trainer,
        saved: dict[str, Any],
        document: dict[str, Any],
        tensors: dict[str, dict[str, Tensor]],
    ) -> None:
        weights = trainer.best or dict(trainer.model.state_dict())
        stored = storage.pack(trainer.plan.model, weights, self.vocabulary)
        nats = self._per_character(_figure(trainer.progress))
        stored.documents["config"] |= saved | {
            "results": {
                "steps": trainer.progress.step,
                "best_step": trainer.progress.best_step,
                "seconds": trainer.progress.seconds,
                "characters_read": trainer.progress.characters,
                "valid_nats_per_char": nats,
                "valid_bits_per_char": None if nats is None else bits(nats),
                "finished": trainer.finished,
            },
            "versions": versions(),
        }
        stored.keep_training(document, tensors)
        checkpoint.save(self.directory, stored, metrics=self.log.lines)


def device_of(config: TrainConfig, ranks: Ranks) -> torch.device:
    """The device of this rank, with its threads set."""
    set_threads(config.threads)
    return ranks.together(lambda: choose_device(ranks.device_name(config.device)))


def _figure(progress: Progress) -> float | None:
    """Nats per symbol of the best weights, over as much validation text as was read."""
    return progress.best_nats if progress.final_nats is None else progress.final_nats
