"""A training run from corpus to checkpoint: `chargen.train` and `chargen.resume`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from . import checkpoint
from .errors import CheckpointError, CorpusError
from .language_model import LanguageModel
from .lm import recipes, storage
from .lm.config import ModelConfig, TrainConfig
from .lm.evaluation import bits
from .lm.model import CharLM
from .lm.progress import Progress
from .lm.trainer import Trainer
from .options import extended, split_options
from .outputs import refuse_to_overwrite, writing_lock
from .reporting import Reporter
from .runtime import (
    REFERENCE_FLOPS,
    PrecisionChoice,
    asked_precision,
    choose_device,
    choose_precision,
    reference_step,
    seed_everything,
    set_threads,
    stopping_softly,
    versions,
)
from .text.config import CorpusConfig
from .text.corpus import Corpus, cached_corpus, load_corpus, release_memory
from .text.sources import corpus_name
from .text.vocabulary import Vocabulary

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


def train(
    corpus: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    force: bool = False,
    reporter: Reporter | None = None,
    **options: Any,
) -> Run:
    """Train a language model on text and leave a checkpoint.

    Parameters
    ----------
    corpus : name, path, or several of them
        As on the command line: a file, a folder, ``python-docs``, ``-``.
    out : path, optional
        The checkpoint's directory; ``checkpoints/<corpus name>`` by default.
    force : bool
        Replace what stands at `out`.
    reporter : Reporter, optional
        Hears of the progress; silent by default.
    **options
        Fields of `TrainConfig`, `ModelConfig` and `CorpusConfig`.

    Raises
    ------
    ConfigError, CorpusError, CheckpointError, TrainingError

    Examples
    --------
    >>> run = chargen.train("mybook.txt", "checkpoints/mybook", minutes=5)  # doctest: +SKIP
    """
    names = [corpus] if isinstance(corpus, str | Path) else list(corpus)
    arguments = tuple(str(name) for name in names)
    train_config, model_config, corpus_config = split_options(
        options, TrainConfig, ModelConfig, CorpusConfig
    )
    reporter = reporter or Reporter()
    directory = Path(out) if out is not None else Path("checkpoints") / corpus_name(arguments)
    refuse_to_overwrite(directory, force)
    with writing_lock(directory):
        checkpoint.check_writable(directory)
        text = load_corpus(
            arguments,
            corpus_config,
            reverse=model_config.direction == "backward",
            progress=reporter.stage,
        )
        for note in text.notes:
            reporter.note(note)
        model_config = replace(model_config, vocabulary_size=text.vocabulary.size)
        session = _Session.prepare(directory, text, reporter, train_config)
        plan = recipes.plan(model_config, train_config, len(text.train), session.flops_per_second)
        for reason in (*plan.reasons, session.precision_note):
            reporter.note(reason)
        seed_everything(plan.train.seed, plan.train.deterministic)
        saved = {
            "train": asdict(plan.train),
            "corpus": {"arguments": arguments, "config": asdict(corpus_config), "key": text.key},
            "plan": {"reading": plan.reading, "reasons": plan.reasons},
            "precision": session.precision.name,
        }
        trainer = session.trainer(plan, saved)
        return session.run(trainer)


def resume(
    directory: str | Path, *, reporter: Reporter | None = None, **budget: float | None
) -> Run:
    """Go on with an interrupted run, exactly where its last checkpoint was written.

    On a CPU, with a budget in steps or epochs, the result equals that of a run that was never
    interrupted, bit by bit.

    Parameters
    ----------
    directory : path
    reporter : Reporter, optional
    **budget
        One of `minutes`, `epochs` and `steps`: the new length of the whole run, what is done
        counted. The learning rate follows the schedule of that length from here on, so a run that
        had finished can go on.

    Raises
    ------
    CheckpointError
        Where there is no run to go on with.
    ConfigError
        For a budget that cannot be.
    CorpusError
        Where the corpus cannot be read any more, or is another than the one that was trained on.
    """
    directory = Path(directory)
    reporter = reporter or Reporter()
    with writing_lock(directory):
        stored = checkpoint.load(directory, storage.KIND, training=True)
        config = stored.document("config")
        if "training/state" not in stored.documents:
            raise CheckpointError(f"{directory} holds no training state: it cannot be resumed")
        where = f"{directory}: config.json"
        train_config = storage.config_from_json(TrainConfig, config.get("train"), where)
        train_config = extended(train_config, budget)
        model_config = storage.config_from_json(ModelConfig, config.get("model"), where)
        model, vocabulary = storage.unpack(stored)
        text = _corpus_again(directory, config, model_config, reporter)
        saved = {k: config[k] for k in ("corpus", "plan", "precision")}
        saved["train"] = asdict(train_config)
        set_threads(train_config.threads)
        session = _Session(
            directory,
            text,
            vocabulary,
            choose_device(train_config.device),
            PrecisionChoice(config["precision"], "as before", 0.0),
            reporter,
            checkpoint.read_metrics(
                directory, stored.document("training/state")["progress"]["step"]
            ),
        )
        plan = recipes.Plan(
            model_config, train_config, config["plan"]["reading"], tuple(config["plan"]["reasons"])
        )
        seed_everything(train_config.seed, train_config.deterministic)
        trainer = session.trainer(plan, saved)
        tensors = stored.folder("training")
        best = {k: v.clone() for k, v in model.state_dict().items()}
        trainer.restore(stored.document("training/state"), tensors, best)
        if trainer.finished:
            reporter.note(f"{directory} has used its budget: nothing is left to do")
            return session.outcome(trainer)
        trainer.progress.final_nats = None
        reporter.note(f"going on from step {trainer.progress.step}")
        return session.run(trainer)


def _corpus_again(
    directory: Path, config: dict[str, Any], model_config: ModelConfig, reporter: Reporter
) -> Corpus:
    """The corpus a run was started with: its encoding if that is still there, or built again."""
    saved = config["corpus"]
    text = cached_corpus(saved["key"])
    if text is not None:
        return text
    if "-" in saved["arguments"]:
        raise CorpusError(
            f"the text that {directory} was reading came from a pipe and is no longer in the cache"
        )
    corpus_config = storage.config_from_json(
        CorpusConfig, saved["config"], f"{directory}: corpus of config.json"
    )
    reverse = model_config.direction == "backward"
    text = load_corpus(saved["arguments"], corpus_config, reverse=reverse, progress=reporter.stage)
    if text.key != saved["key"]:
        raise CorpusError(
            f"the corpus of {directory} ({', '.join(saved['arguments'])}) has changed since: "
            "a run can only go on with the same text"
        )
    return text


@dataclass
class _Session:
    """The parts of a run that are settled before its sizes are."""

    directory: Path
    text: Corpus
    vocabulary: Vocabulary
    device: torch.device
    precision: PrecisionChoice
    reporter: Reporter
    rows: list[str]

    @classmethod
    def prepare(
        cls, directory: Path, text: Corpus, reporter: Reporter, config: TrainConfig
    ) -> _Session:
        set_threads(config.threads)
        device = choose_device(config.device)
        requested = asked_precision(config.precision, config.deterministic)
        precision = choose_precision(requested, device, reference_step(device))
        return cls(directory, text, text.vocabulary, device, precision, reporter, [])

    @property
    def flops_per_second(self) -> float:
        return REFERENCE_FLOPS / self.precision.seconds_per_step

    @property
    def precision_note(self) -> str:
        return f"{self.precision.name}: {self.precision.reason}"

    def trainer(self, plan: recipes.Plan, saved: dict[str, Any]) -> Trainer:
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
            self._draw if plan.train.samples else None,
            self.reporter,
        )

    def run(self, trainer: Trainer) -> Run:
        try:
            with stopping_softly(trainer):
                trainer.run()
        finally:
            self.reporter.close()
        return self.outcome(trainer)

    def outcome(self, trainer: Trainer) -> Run:
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
            self._draw(trainer.model.eval()),
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

    def _draw(self, model: CharLM) -> str:
        lm = LanguageModel(model, self.vocabulary)
        if not lm.can_write:
            return ""
        return lm.generate(max_chars=SAMPLE_CHARACTERS)

    def _save(self, trainer: Trainer, saved: dict[str, Any]) -> None:
        weights = trainer.best or dict(trainer.model.state_dict())
        stored = storage.pack(trainer.plan.model, weights, self.vocabulary)
        document, tensors = trainer.training_state()
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
        stored.documents["training/state"] = document
        for name, group in tensors.items():
            stored.tensors[f"training/{name}"] = group
        rows = self.rows + trainer.rows
        checkpoint.save(self.directory, stored, metrics=rows)
        release_memory(self.text.train)
        release_memory(self.text.valid)


def _figure(progress: Progress) -> float | None:
    """Nats per symbol of the best weights, over as much validation text as was read."""
    return progress.best_nats if progress.final_nats is None else progress.final_nats
