"""The parts of a training run: text, loop and checkpoint."""

from __future__ import annotations

import contextlib
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from chargen.errors import CheckpointError
from chargen.language_model import LanguageModel
from chargen.lm import recipes, storage
from chargen.lm.evaluation import bits
from chargen.lm.model import Network, create_network
from chargen.runtime.device import versions
from chargen.runtime.distributed import Ranks
from chargen.runtime.signals import stop_after_step
from chargen.storage import checkpoint
from chargen.text.corpus import Corpus, release_memory
from chargen.training.language_modelling import LanguageModelling
from chargen.training.loop import Loop
from chargen.training.reporting import Log, Reporter
from chargen.training.task import Tensors

SAMPLE_CHARACTERS = 200

COUNTED_SYMBOLS = 1 << 20
"""Symbols of the training text in which characters are counted if there is no validation text."""


@dataclass(frozen=True)
class Run:
    """The result of a training run.

    Attributes
    ----------
    directory : Path
        The checkpoint.
    steps : int
    seconds : float
        Time in the training loop.
    valid_nats, valid_bits : float or None
        Validation loss of the best weights, per character; None without validation text.
    uniform_bits : float
        Bits per character if all symbols were equally likely.
    finished : bool
        False if the run was interrupted; `resume` continues it.
    sample : str
        Text written with the best weights; empty if the model cannot write (`can_write`).
    """

    directory: Path
    steps: int
    seconds: float
    valid_nats: float | None
    valid_bits: float | None
    uniform_bits: float
    finished: bool
    sample: str

    @property
    def worse_than_uniform(self) -> bool:
        """Whether the model is worse than one for which all symbols are equally likely.

        An untrained model is about as good as that.
        """
        return self.valid_bits is not None and self.valid_bits > self.uniform_bits + 0.1


@dataclass
class Session:
    """The parts of a run that do not depend on its sizes."""

    directory: Path  # the checkpoint
    text: Corpus
    device: torch.device
    ranks: Ranks
    reporter: Reporter
    log: Log  # starts with the rows of earlier parts of the run
    documents: dict[str, Any]  # the entries "corpus", "plan" and "precision" of the checkpoint
    weights: dict[str, Tensor] | None = None  # initial weights of a new run; random if None

    def loop(self, plan: recipes.Plan) -> Loop[LanguageModelling]:
        """Return a loop that trains a new model and writes its checkpoints to `directory`."""
        model = create_network(plan.model)
        if self.weights is not None:
            model.load_state_dict(self.weights)
        task = LanguageModelling(
            model.to(self.device),
            plan,
            self.text.train,
            self.text.valid,
            self.text.vocabulary.start_id,
            self.documents["precision"],
            (lambda model: self._write_sample(model, plan.train.seed))
            if plan.train.samples
            else None,
            self.ranks,
            self.text.vocabulary.separator_id,
            self.text.vocabulary.first_label_id if self.text.vocabulary.labels else None,
        )
        return Loop(task, self._save, self.reporter, self.log)

    def run(self, loop: Loop[LanguageModelling]) -> Run:
        """Train and return the result.

        Raises `TrainingError` if the loss stays non-finite, or if a rank stops responding.
        """
        try:
            with (
                stop_after_step(loop),
                self.ranks.name_lost_ranks(lambda: self._saved_clause(loop)),
            ):
                loop.run()
        finally:
            self.reporter.close()
        return self.outcome(loop)

    def _saved_clause(self, loop: Loop[LanguageModelling]) -> str:
        step = loop.saved_step
        if not step:
            return "no checkpoint had been written"
        # Rank 0 may have written a newer checkpoint than the last one that this rank recorded.
        with contextlib.suppress(CheckpointError):
            stored = checkpoint.load(self.directory, storage.KIND, training=True)
            step = stored.document("training/state")["progress"]["step"]
        return (
            f"the last good checkpoint, step {step}, is kept in {self.directory}: continue with "
            f"chargen train --resume {self.directory}"
        )

    def outcome(self, loop: Loop[LanguageModelling]) -> Run:
        """Return the result of the run; rank 0 draws the sample."""
        return self.ranks.broadcast(lambda: self._make_run(loop))

    def _make_run(self, loop: Loop[LanguageModelling]) -> Run:
        if loop.best:
            loop.task.model.load_state_dict(loop.best)
        nats = self._valid_nats(loop.task)
        return Run(
            self.directory,
            loop.progress.step,
            loop.progress.seconds,
            nats,
            None if nats is None else bits(nats),
            bits(math.log(self.text.vocabulary.size) * self._symbols_per_character(loop.task)),
            loop.finished,
            self._write_sample(loop.task.model.eval(), loop.task.config.seed),
        )

    def _symbols_per_character(self, task: LanguageModelling) -> float:
        vocabulary, ids = self.text.vocabulary, task.measured_ids
        if not len(ids):
            ids = self.text.train[:COUNTED_SYMBOLS]
        return vocabulary.count_predicted(ids) / vocabulary.count_characters(ids)

    def _valid_nats(self, task: LanguageModelling) -> float | None:
        """Return the validation loss in nats per character, which may be several bytes."""
        nats = task.progress.reported_nats
        return None if nats is None else nats * self._symbols_per_character(task)

    def _write_sample(self, model: Network, seed: int) -> str:
        lm = LanguageModel(model, self.text.vocabulary)
        label = next(iter(lm.vocabulary.labels), None)
        if not lm.can_write:
            return ""
        return lm.generate(max_chars=SAMPLE_CHARACTERS, seed=seed, label=label)

    def _save(self, loop: Loop[LanguageModelling]) -> None:
        document, tensors = loop.state()  # each rank contributes a part
        self.ranks.broadcast(lambda: self._write_checkpoint(loop, document, tensors))
        release_memory(self.text.train)
        release_memory(self.text.valid)

    def _write_checkpoint(
        self, loop: Loop[LanguageModelling], document: dict[str, Any], tensors: Tensors
    ) -> None:
        task = loop.task
        weights = loop.best or dict(task.model.state_dict())
        stored = storage.pack(task.plan.model, weights, self.text.vocabulary)
        nats = self._valid_nats(task)
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
        stored.add_training_state(document, tensors)
        checkpoint.save(self.directory, stored, metrics=self.log.lines)
