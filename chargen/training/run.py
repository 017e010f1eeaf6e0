"""A training run from corpus to checkpoint: `chargen.train` and `chargen.resume`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from chargen.errors import CheckpointError, ConfigError, CorpusError, brief
from chargen.lm import recipes, storage
from chargen.lm.config import ModelConfig, TrainConfig
from chargen.lm.model import CharLM
from chargen.options import extended, split_options
from chargen.runtime.distributed import Ranks, joined
from chargen.runtime.precision import PrecisionChoice
from chargen.runtime.seeds import seed_everything
from chargen.storage import checkpoint
from chargen.storage.outputs import refuse_to_overwrite, writing_lock
from chargen.text.config import CorpusConfig
from chargen.text.corpus import Corpus, cached_corpus, load_corpus
from chargen.text.fetching import valid_part
from chargen.text.files import refuse_text
from chargen.text.given import given_texts
from chargen.text.sources import corpus_name
from chargen.text.vocabulary import Vocabulary
from chargen.training.progress import LARGEST
from chargen.training.reporting import Log, Reporter
from chargen.training.session import Run, Session, device_of


def train(
    corpus: str | Path | Sequence[str | Path] | None = None,
    out: str | Path | None = None,
    *,
    texts: Iterable[str] | None = None,
    force: bool = False,
    reporter: Reporter | None = None,
    tensorboard: str | Path | None = None,
    **options: Any,
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
        if len(texts) > 1:
            options.setdefault("documents", "rows")
    directory = Path(out) if out is not None else Path("checkpoints") / corpus_name(arguments)
    with joined() as ranks, ExitStack() as stack:
        reporter = reporter if reporter and ranks.leads else Reporter()

        def ready() -> tuple[TrainConfig, ModelConfig, CorpusConfig]:
            configs = split_options(options, TrainConfig, ModelConfig, CorpusConfig)
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
            lambda: load_corpus(
                arguments, corpus_config, texts=texts, reverse=reverse, progress=reporter.stage
            ),
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
    reporter: Reporter | None = None,
    tensorboard: str | Path | None = None,
    **budget: float | None,
) -> Run:
    """Go on with an interrupted run, exactly where its last checkpoint was written.

    On a CPU, with a budget in steps or epochs, the result equals that of a run that was never
    interrupted, bit by bit.

    Parameters
    ----------
    directory : path
    reporter : Reporter, optional
    tensorboard : path, optional
        As for `train`.
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
    with joined() as ranks, ExitStack() as stack:
        reporter = reporter if reporter and ranks.leads else Reporter()

        def read() -> tuple[checkpoint.Checkpoint, TrainConfig, CharLM, Vocabulary]:
            stack.enter_context(writing_lock(directory))
            return _read(directory, budget)

        stored, train_config, model, vocabulary = ranks.shared(read)
        config, state = stored.document("config"), stored.document("training/state")
        reverse = model.config.direction == "backward"
        text = _on_all_ranks(
            ranks,
            lambda: _corpus_again(str(directory), config["corpus"], reverse, reporter),
            config["corpus"],
            reverse,
        )
        _check_text(directory, text, train_config, vocabulary)
        saved = {k: config[k] for k in ("corpus", "plan", "precision")}
        saved["train"] = asdict(train_config)
        session = Session(
            directory,
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


def _events(
    folder: str | Path | None, directory: Path, first_step: int, ranks: Ranks, stack: ExitStack
) -> Callable[[Mapping[str, Any]], None] | None:
    """What writes the rows of the log for TensorBoard, on the rank that has a log."""
    if folder is None or not ranks.leads:
        return None
    from chargen.plotting.events import Events

    return stack.enter_context(closing(Events(Path(folder) / directory.name, first_step)))


def _read(
    directory: Path, budget: dict[str, float | None]
) -> tuple[checkpoint.Checkpoint, TrainConfig, CharLM, Vocabulary]:
    """A checkpoint to go on with, its settings with the new budget, and what it holds."""
    stored = checkpoint.load(directory, storage.KIND, training=True)
    config = stored.document("config")
    if "training/state" not in stored.documents:
        raise CheckpointError(f"{directory} holds no training state: it cannot be resumed")
    where = f"{directory}: config.json"
    with storage.fitting(directory):
        _check(stored.document("config"), stored.document("training/state"))
    settings = config.get("train")
    if isinstance(settings, dict):  # runs that know no Muon yet
        settings = {"optimizer": "adamw", **settings}
    train_config = storage.config_from_json(TrainConfig, settings, where)
    train_config = extended(train_config, budget)
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


def _corpus_again(where: str, saved: dict[str, Any], reverse: bool, reporter: Reporter) -> Corpus:
    """The corpus of a run that has begun: its encoding if that is here, or built again."""
    text = cached_corpus(saved["key"])
    if text is not None:
        return text
    if not saved["arguments"] or "-" in saved["arguments"]:
        origin = "a pipe" if saved["arguments"] else "Python"
        raise CorpusError(
            f"the text that {where} was reading came from {origin} and is no longer in the cache"
        )
    corpus_config = storage.config_from_json(
        CorpusConfig, saved["config"], f"{where}: corpus of config.json"
    )
    text = load_corpus(saved["arguments"], corpus_config, reverse=reverse, progress=reporter.stage)
    if text.key != saved["key"]:
        raise CorpusError(
            f"the corpus of {where} ({', '.join(saved['arguments'])}) has changed since: "
            "a run can only go on with the same text"
        )
    return text
