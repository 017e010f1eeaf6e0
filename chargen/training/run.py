"""A training run from corpus to checkpoint: `chargen.train` and `chargen.resume`.

How a run begins and goes on; what it is made of stands in `session.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from chargen.errors import ConfigError
from chargen.lm import recipes, storage
from chargen.lm.config import ModelConfig, TrainConfig, required
from chargen.lm.optim import schedule_factor
from chargen.options import extended, split_options
from chargen.runtime.device import device_of
from chargen.runtime.distributed import Ranks
from chargen.runtime.precision import (
    REFERENCE_FLOPS,
    asked_precision,
    choose_precision,
    reference_step,
)
from chargen.runtime.process_group import joined
from chargen.runtime.seeds import seed_everything
from chargen.storage import checkpoint
from chargen.storage.outputs import refuse_to_overwrite, writing_lock
from chargen.text.config import CorpusConfig
from chargen.text.corpus import Corpus, load_corpus
from chargen.text.fetching import valid_part
from chargen.text.files import refuse_text
from chargen.text.given import given_texts
from chargen.text.sources import corpus_name
from chargen.training.corpora import corpus_on_all_ranks
from chargen.training.language_modelling import LanguageModelling
from chargen.training.loop import Loop
from chargen.training.reporting import Log, Reporter, followed
from chargen.training.session import Run, SavedRun, Session, read_run

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from chargen.keywords import TrainOptions


def train(
    corpus: str | Path | Sequence[str | Path] | None = None,
    out: str | Path | None = None,
    *,
    texts: Iterable[str] | None = None,
    config: TrainConfig | None = None,
    model: ModelConfig | None = None,
    reading: CorpusConfig | None = None,
    force: bool = False,
    reporter: Reporter | None = None,
    tensorboard: str | Path | None = None,
    **options: Unpack[TrainOptions],
) -> Run:
    """Train a language model on text and leave a checkpoint.

    Parameters
    ----------
    corpus : name, path, or several of them
        As on the command line: a file, a folder, ``python-docs``, ``-``.
    out : path, optional
        The checkpoint's directory; ``checkpoints/<corpus name>`` by default.
    texts : iterable of str, optional
        In the place of `corpus`. Several are kept apart as the rows of a table are, unless
        `documents` says otherwise; a single one is read as a file of it. Such a run can be resumed
        as long as its encoding is in the cache.
    config, model, reading : TrainConfig, ModelConfig, CorpusConfig, optional
        How to train, what, and how the text is read; `options` go before their fields.
    force : bool
        Replace what stands at `out`.
    reporter : Reporter, optional
        Hears of the progress; silent by default.
    tensorboard : path, optional
        A folder in which the run writes event files of TensorBoard, in one of its own.
    **options
        Fields of `TrainConfig`, `ModelConfig` and `CorpusConfig`.

    Raises
    ------
    ConfigError, CorpusError, CheckpointError, TrainingError

    Examples
    --------
    >>> run = chargen.train("mybook.txt", "checkpoints/mybook", minutes=5)  # doctest: +SKIP
    """
    if (corpus is None) == (texts is None):
        raise ConfigError("give either a corpus (a file, a folder, a name) or texts=[...]")
    names = [corpus] if isinstance(corpus, str | Path) else list(corpus or ())
    arguments = tuple(str(name) for name in names)
    for argument in arguments:
        refuse_text(argument)
    if texts is not None:
        texts = list(given_texts(texts))
        if len(texts) > 1 and getattr(reading, "documents", None) is None:
            options.setdefault("documents", "rows")
    directory = Path(out) if out is not None else Path("checkpoints") / corpus_name(arguments)
    with joined() as ranks, ExitStack() as stack:
        reporter = reporter if reporter and ranks.is_main else Reporter()

        def ready() -> tuple[TrainConfig, ModelConfig, CorpusConfig]:
            owners = (TrainConfig, ModelConfig, CorpusConfig)
            configs = split_options(options, *owners, given=(config, model, reading))
            if configs[1].direction == "backward" and configs[2].label_column:
                raise ConfigError("--label-column: a model that reads backward would read it last")
            refuse_to_overwrite(directory, force)
            stack.enter_context(writing_lock(directory))
            checkpoint.check_writable(directory)
            return configs

        train_config, model_config, corpus_config = ranks.shared(ready)
        log = Log()
        events = followed(log, tensorboard if ranks.is_main else None, directory.name)
        stack.enter_context(events)
        reverse = model_config.direction == "backward"
        text, corpus_saved = _read(arguments, texts, corpus_config, reverse, ranks, reporter)
        model_config = replace(model_config, vocabulary_size=text.vocabulary.size)
        device = device_of(train_config, ranks)
        plan, precision = _plan(model_config, train_config, text, device, ranks, reporter)
        seed_everything(plan.train.seed, plan.train.deterministic)
        documents = {
            "corpus": corpus_saved,
            "plan": {"reading": plan.reading, "reasons": plan.reasons},
            "precision": precision,
        }
        session = Session(directory, text, device, ranks, reporter, log, documents)
        return session.run(session.loop(plan))


def _read(
    arguments: Sequence[str],
    texts: Iterable[str] | None,
    config: CorpusConfig,
    reverse: bool,
    ranks: Ranks,
    reporter: Reporter,
) -> tuple[Corpus, dict[str, Any]]:
    """The corpus of a new run, and what its checkpoint says of it."""
    if config.valid is None and (part := valid_part(arguments)):
        config = replace(config, valid=part)
        reporter.note(f"validation text: {part}")
    saved = {"arguments": arguments, "config": asdict(config)}
    text = corpus_on_all_ranks(
        ranks,
        lambda: load_corpus(
            arguments, config, texts=texts, reverse=reverse, progress=reporter.stage
        ),
        saved,
        reverse,
    )
    for note in text.notes:
        reporter.note(note)
    return text, {**saved, "key": text.key}


def _plan(
    model_config: ModelConfig,
    train_config: TrainConfig,
    text: Corpus,
    device: torch.device,
    ranks: Ranks,
    reporter: Reporter,
) -> tuple[recipes.Plan, str]:
    """Every choice that was left open, and the precision, made on rank 0 for all."""
    requested = asked_precision(train_config.precision, train_config.deterministic)
    precision = ranks.shared(lambda: choose_precision(requested, device, reference_step(device)))
    speed = ranks.size * REFERENCE_FLOPS / precision.seconds_per_step

    def choose() -> recipes.Plan:
        plan = recipes.plan(model_config, train_config, len(text.train), speed)
        ranks.columns(required(plan.train.batch_size))  # refuses too few
        return plan

    plan = ranks.shared(choose)
    for reason in (*plan.reasons, f"{precision.name}: {precision.reason}"):
        reporter.note(reason)
    return plan, precision.name


def resume(
    directory: str | Path,
    *,
    cool_down: float | None = None,
    out: str | Path | None = None,
    reporter: Reporter | None = None,
    tensorboard: str | Path | None = None,
    **budget: float | None,
) -> Run:
    """Go on with a run where its last checkpoint was written, or cool down a copy of it.

    On a CPU, with a budget in steps or epochs, the result equals that of a run that was never
    interrupted, bit by bit.

    A corpus that was edited meanwhile is refused, even where the cache still has the encoding of
    the text that the run began with: whether a run can go on must not depend on what a cache
    happens to keep, and whoever edits a text expects the edited one to be read. Where the text is
    no longer there to compare (removed, or read from a pipe), its encoding is used and this is
    said.

    Parameters
    ----------
    directory : path
    cool_down : float, optional
        Minutes in which the learning rate falls from where it is to zero, in a copy of the run at
        `out`. The run itself stays as it is, and may be going on meanwhile.
    out : path, optional
        Where the copy goes.
    reporter : Reporter, optional
    tensorboard : path, optional
        As for `train`.
    **budget
        One of `minutes`, `epochs` and `steps`: the new length of the whole run, what is done
        counted. The learning rate follows the schedule of that length from here on, so a run that
        had finished, or that `patience` had ended, can go on.

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
    lengthened = any(value is not None for value in budget.values())
    if (cool_down is None) != (out is None):
        raise ConfigError("--cool-down makes a copy: give --cool-down MINUTES and --out together")
    if cool_down is not None and lengthened:
        raise ConfigError("--cool-down is the budget of the copy: leave the other budget out")
    target = directory if out is None else Path(out)
    with joined() as ranks, ExitStack() as stack:
        reporter = reporter if reporter and ranks.is_main else Reporter()

        def read() -> tuple[SavedRun, TrainConfig]:
            if out is not None:
                refuse_to_overwrite(target, force=False)
                checkpoint.check_writable(target)
            stack.enter_context(writing_lock(target))
            saved = read_run(directory)
            return saved, extended(saved.config, budget)

        saved, longer = ranks.shared(read)
        session, loop = _as_it_was(saved, target, ranks, reporter)
        if lengthened:
            _lengthen(loop, longer, reporter)
        elif cool_down is not None:
            loop.take_budget(cooling(loop, cool_down))
        if loop.finished:
            reporter.note(f"{directory} has used its budget: nothing is left to do")
            return session.outcome(loop)
        first_step = loop.progress.step + 1
        events = followed(loop.log, tensorboard if ranks.is_main else None, target.name, first_step)
        stack.enter_context(events)
        loop.task.progress.final_nats = None
        _announce(saved, loop, reporter)
        return session.run(loop)


def _as_it_was(
    saved: SavedRun, target: Path, ranks: Ranks, reporter: Reporter
) -> tuple[Session, Loop[LanguageModelling]]:
    """The loop where it was saved, and the rest of the run."""
    text = saved.text(ranks, reporter)
    device = device_of(saved.config, ranks)
    step = saved.state["progress"]["step"]
    log = Log(checkpoint.read_metrics(saved.directory, step) if ranks.is_main else ())
    session = Session(target, text, device, ranks, reporter, log, saved.documents)
    seed_everything(saved.config.seed, saved.config.deterministic)
    loop = session.loop(saved.plan)
    best = {name: value.clone() for name, value in saved.model.state_dict().items()}
    with storage.fitting(saved.directory):
        loop.restore(saved.state, saved.stored.folder("training"), best)
    return session, loop


def _lengthen(loop: Loop[LanguageModelling], config: TrainConfig, reporter: Reporter) -> None:
    """Give the run the budget of `config`, and tell where its rate rises again."""
    before = _rate_factor(loop)
    loop.take_budget(config)
    now = _rate_factor(loop)
    if now > before + 1e-3:
        reporter.note(
            f"the learning rate rises again, from {before:.0%} to {now:.0%} of its highest:"
            " it had begun to fall towards the end of the shorter budget (see --schedule)"
        )


def _rate_factor(loop: Loop[LanguageModelling]) -> float:
    """Share of the highest learning rate that the schedule gives now, warm-up aside."""
    config = loop.task.config
    return schedule_factor(loop.share_done, config.schedule, config.cooldown)


def cooling(loop: Loop[LanguageModelling], minutes: float) -> TrainConfig:
    """The settings with which a run falls from the rate that it has to zero in some minutes.

    Raises `ConfigError` where the rate is zero already, or for minutes that are none.
    """
    if not 0 < minutes < math.inf:
        raise ConfigError(f"--cool-down must be minutes above 0, got {minutes}")
    factor = _rate_factor(loop)
    if not factor > 0:
        raise ConfigError("--cool-down: the learning rate of this run has come to zero already")
    done = loop.progress.seconds / 60
    config: TrainConfig = loop.task.config
    return replace(
        config,
        minutes=done + minutes,
        epochs=None,
        steps=None,
        schedule="constant-cooldown",
        cooldown=minutes / (done + minutes),
        learning_rate=loop.settings.learning_rate * factor,
    )


def _announce(saved: SavedRun, loop: Loop[LanguageModelling], reporter: Reporter) -> None:
    """Say from where the run goes on, and what is not as it was."""
    reporter.note(f"going on from step {loop.progress.step}")
    before, now = saved.state.get("ranks", 1), loop.task.ranks.size
    if before != now:
        reporter.note(
            f"the run had {_processes(before)} and goes on with {_processes(now)}: each "
            "stream of text goes on where it was; dropout draws other random numbers from here"
        )


def _processes(count: int) -> str:
    return "one process" if count == 1 else f"{count} ranks"
