"""A training run from corpus to checkpoint: `chargen.train` and `chargen.resume`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chargen.errors import CheckpointError, ConfigError, CorpusError, brief
from chargen.lm import recipes, storage
from chargen.lm.config import ModelConfig, TrainConfig
from chargen.lm.model import CharLM
from chargen.options import extended, split_options
from chargen.runtime.distributed import Ranks
from chargen.runtime.joining import joined
from chargen.runtime.precision import PrecisionChoice
from chargen.runtime.seeds import seed_everything
from chargen.storage import checkpoint
from chargen.storage.outputs import refuse_to_overwrite, writing_lock
from chargen.text.config import CorpusConfig
from chargen.text.corpus import Corpus, cached_corpus, current_key, load_corpus
from chargen.text.fetching import valid_part
from chargen.text.sources import corpus_name, is_there
from chargen.text.vocabulary import Vocabulary
from chargen.training.progress import LARGEST
from chargen.training.reporting import Log, Reporter
from chargen.training.session import Run, Session, device_of
from chargen.training.trainer import Trainer

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from chargen.keywords import TrainOptions


def train(
    corpus: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
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
    names = [corpus] if isinstance(corpus, str | Path) else list(corpus)
    arguments = tuple(str(name) for name in names)
    directory = Path(out) if out is not None else Path("checkpoints") / corpus_name(arguments)
    with joined() as ranks, ExitStack() as stack:
        reporter = reporter if reporter and ranks.leads else Reporter()

        def ready() -> tuple[TrainConfig, ModelConfig, CorpusConfig]:
            owners = (TrainConfig, ModelConfig, CorpusConfig)
            configs = split_options(options, *owners, given=(config, model, reading))
            refuse_to_overwrite(directory, force)
            stack.enter_context(writing_lock(directory))
            checkpoint.check_writable(directory)
            return configs

        train_config, model_config, corpus_config = ranks.shared(ready)
        events = _events(tensorboard, directory, 0, ranks, stack)
        if corpus_config.valid is None and (part := valid_part(arguments)):
            corpus_config = replace(corpus_config, valid=part)
            reporter.note(f"validation text: {part}")
        corpus_saved = {"arguments": arguments, "config": asdict(corpus_config)}
        reverse = model_config.direction == "backward"
        text = _on_all_ranks(
            ranks,
            lambda: load_corpus(arguments, corpus_config, reverse=reverse, progress=reporter.stage),
            corpus_saved,
            reverse,
        )
        for note in text.notes:
            reporter.note(note)
        model_config = replace(model_config, vocabulary_size=text.vocabulary.size)
        session = Session.prepare(directory, text, reporter, train_config, ranks)
        if events:
            session.log.follow(events)
        plan = session.plan(model_config, train_config)
        for reason in (*plan.reasons, session.precision_note):
            reporter.note(reason)
        seed_everything(plan.train.seed, plan.train.deterministic)
        saved = {
            "train": asdict(plan.train),
            "corpus": {**corpus_saved, "key": text.key},
            "plan": {"reading": plan.reading, "reasons": plan.reasons},
            "precision": session.precision.name,
        }
        return session.run(session.trainer(plan, saved))


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
        reporter = reporter if reporter and ranks.leads else Reporter()

        def read() -> tuple[checkpoint.Checkpoint, TrainConfig, TrainConfig, CharLM, Vocabulary]:
            if out is not None:
                refuse_to_overwrite(target, force=False)
                checkpoint.check_writable(target)
            stack.enter_context(writing_lock(target))
            stored, train_config, model, vocabulary = _read(directory)
            return stored, train_config, extended(train_config, budget), model, vocabulary

        stored, train_config, extended_config, model, vocabulary = ranks.shared(read)
        config, state = stored.document("config"), stored.document("training/state")
        reverse = model.config.direction == "backward"
        text = _on_all_ranks(
            ranks,
            lambda: _corpus_resumed(str(directory), config["corpus"], reverse, reporter),
            config["corpus"],
            reverse,
        )
        _check_text(directory, text, train_config, vocabulary)
        saved = {k: config[k] for k in ("corpus", "plan", "precision")}
        session = Session(
            target,
            text,
            vocabulary,
            device_of(train_config, ranks),
            PrecisionChoice(config["precision"], "as before", 0.0),
            reporter,
            ranks,
            Log(
                checkpoint.read_metrics(directory, state["progress"]["step"]) if ranks.leads else ()
            ),
        )
        plan = recipes.Plan(
            model.config, train_config, config["plan"]["reading"], tuple(config["plan"]["reasons"])
        )
        seed_everything(train_config.seed, train_config.deterministic)
        trainer = session.trainer(plan, saved)
        best = {k: v.clone() for k, v in model.state_dict().items()}
        with storage.fitting(directory):
            trainer.restore(state, stored.folder("training"), best)
        if lengthened:
            before = trainer.rate_factor
            trainer.take_budget(extended_config)
            now = trainer.rate_factor
            if now > before + 1e-3:
                reporter.note(
                    f"the learning rate rises again, from {before:.0%} to {now:.0%} of its highest:"
                    " it had begun to fall towards the end of the shorter budget (see --schedule)"
                )
        elif cool_down is not None:
            trainer.take_budget(cooling(trainer, cool_down))
        saved["train"] = asdict(trainer.config)
        if trainer.finished:
            reporter.note(f"{directory} has used its budget: nothing is left to do")
            return session.outcome(trainer)
        if events := _events(tensorboard, directory, trainer.progress.step + 1, ranks, stack):
            session.log.follow(events)
        trainer.progress.final_nats = None
        reporter.note(f"going on from step {trainer.progress.step}")
        before = state.get("ranks", 1)
        if before != ranks.size:
            reporter.note(
                f"the run had {_processes(before)} and goes on with {_processes(ranks.size)}: each "
                "stream of text goes on where it was; dropout draws other random numbers from here"
            )
        return session.run(trainer)


def cooling(trainer: Trainer, minutes: float) -> TrainConfig:
    """The settings with which a run falls from the rate that it has to zero in some minutes.

    Raises
    ------
    ConfigError
        Where the rate is zero already, or for minutes that are none.
    """
    if not 0 < minutes < math.inf:
        raise ConfigError(f"--cool-down must be minutes above 0, got {minutes}")
    factor = trainer.rate_factor
    if not factor > 0:
        raise ConfigError("--cool-down: the learning rate of this run has come to zero already")
    done = trainer.progress.seconds / 60
    return replace(
        trainer.config,
        minutes=done + minutes,
        epochs=None,
        steps=None,
        schedule="constant-cooldown",
        cooldown=minutes / (done + minutes),
        learning_rate=trainer.learning_rate * factor,
    )


def _events(
    folder: str | Path | None, directory: Path, first_step: int, ranks: Ranks, stack: ExitStack
) -> Callable[[Mapping[str, Any]], None] | None:
    """What writes the rows of the log for TensorBoard, on the rank that has a log."""
    if folder is None or not ranks.leads:
        return None
    from chargen.plotting.events import Events

    return stack.enter_context(closing(Events(Path(folder) / directory.name, first_step)))


def _read(directory: Path) -> tuple[checkpoint.Checkpoint, TrainConfig, CharLM, Vocabulary]:
    """A checkpoint to go on with, its settings, and what it holds."""
    stored = checkpoint.load(directory, storage.KIND, training=True)
    config = stored.document("config")
    if "training/state" not in stored.documents:
        raise CheckpointError(f"{directory} holds no training state: it cannot be resumed")
    where = f"{directory}: config.json"
    with storage.fitting(directory):
        _check(stored.document("config"), stored.document("training/state"))
    settings = config.get("train")
    if isinstance(settings, dict):  # runs of earlier versions, which knew less
        settings = {"optimizer": "adamw", "shuffle_documents": False, **settings}
    train_config = storage.config_from_json(TrainConfig, settings, where)
    model, vocabulary = storage.unpack(stored)
    return stored, train_config, model, vocabulary


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


def _check_text(directory: Path, text: Corpus, config: TrainConfig, vocabulary: Vocabulary) -> None:
    """Refuse a text that cannot be the one of the run.

    Raises
    ------
    CheckpointError
    """
    if text.vocabulary != vocabulary:
        raise CheckpointError(f"{directory}: vocabulary.json is not that of the corpus")
    streams = config.batch_size or 0
    if not 0 < 2 * streams <= len(text.train):
        raise CheckpointError(
            f"{directory}: config.json: train.batch_size is {brief(config.batch_size)}, and the "
            f"text has {len(text.train):,} symbols"
        )


def _processes(count: int) -> str:
    return "one process" if count == 1 else f"{count} ranks"


def _on_all_ranks(
    ranks: Ranks, load: Callable[[], Corpus], saved: dict[str, Any], reverse: bool
) -> Corpus:
    """The corpus that rank 0 loads, on each rank: through the cache, or encoded once a machine."""
    loaded: list[Corpus] = []

    def first() -> str:
        loaded.append(load())
        return loaded[0].key

    found = {**saved, "key": ranks.shared(first)}
    return ranks.in_turn(
        lambda: loaded[0] if loaded else _corpus_again("rank 0", found, reverse, Reporter())
    )


def _corpus_resumed(
    directory: str, saved: dict[str, Any], reverse: bool, reporter: Reporter
) -> Corpus:
    """The text that a run began with; see `resume` on one that was edited."""
    names, config = saved["arguments"], _saved_config(directory, saved)
    gone = [name for name in (*names, config.valid) if name is not None and not is_there(name)]
    if gone and (text := cached_corpus(saved["key"])):
        shown = ", ".join("standard input" if name == "-" else name for name in gone)
        reporter.note(f"{shown} cannot be read again: going on with its encoding in the cache")
        return text
    if not gone and saved["key"] != current_key(
        names, config, reverse=reverse, progress=reporter.stage
    ):
        raise _changed(directory, saved)
    return _corpus_again(directory, saved, reverse, reporter)


def _saved_config(where: str, saved: dict[str, Any]) -> CorpusConfig:
    return storage.config_from_json(
        CorpusConfig, saved["config"], f"{where}: corpus of config.json"
    )


def _changed(where: str, saved: dict[str, Any]) -> CorpusError:
    return CorpusError(
        f"the corpus of {where} ({', '.join(saved['arguments'])}) has changed since: "
        "a run can only go on with the same text"
    )


def _corpus_again(where: str, saved: dict[str, Any], reverse: bool, reporter: Reporter) -> Corpus:
    """The corpus of a run that has begun: its encoding if that is here, or built again."""
    text = cached_corpus(saved["key"])
    if text is not None:
        return text
    if "-" in saved["arguments"]:
        raise CorpusError(
            f"the text that {where} was reading came from a pipe and is no longer in the cache"
        )
    text = load_corpus(
        saved["arguments"], _saved_config(where, saved), reverse=reverse, progress=reporter.stage
    )
    if text.key != saved["key"]:
        raise _changed(where, saved)
    return text
