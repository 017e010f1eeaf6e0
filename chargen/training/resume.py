"""Continue a training run from its checkpoint, with another budget if given: `chargen.resume`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from chargen.errors import CheckpointError, ConfigError, brief
from chargen.lm import recipes, storage
from chargen.lm.config import TrainConfig
from chargen.lm.model import Network
from chargen.options import check_argument, with_new_budget
from chargen.runtime.device import restored_settings, set_up_device
from chargen.runtime.distributed import Ranks
from chargen.runtime.process_group import joined_ranks
from chargen.runtime.seeds import seed_everything
from chargen.storage import checkpoint
from chargen.storage.outputs import locked_for_run, writing_lock
from chargen.text.corpus import Corpus
from chargen.text.vocabulary import Vocabulary
from chargen.training.continuing import with_replay, without_validation
from chargen.training.corpora import corpus_on_all_ranks, resumed_corpus, saved_config
from chargen.training.language_modelling import LanguageModelling
from chargen.training.loop import Loop
from chargen.training.reporting import Log, Reporter, log_to_tensorboard
from chargen.training.schedule import schedule_factor
from chargen.training.session import Run, Session


@restored_settings()
def resume(
    directory: str | Path,
    *,
    cool_down: float | None = None,
    out: str | Path | None = None,
    reporter: Reporter | None = None,
    tensorboard: str | Path | None = None,
    **budget: float | None,
) -> Run:
    """Continue a run from its last checkpoint, or cool down a copy of it.

    On a CPU, with a budget in steps or epochs and the same number of threads, the result equals
    that of a run that was never interrupted, bit for bit.

    A corpus that has changed is refused, even if its old encoding is in the cache. If the text is
    no longer available (removed, or read from a pipe), its encoding in the cache is used, and a
    note says so.

    Parameters
    ----------
    directory : path
    cool_down : float, optional
        Minutes in which the learning rate falls from its present value to zero, in a copy of the
        run at `out`. The run itself is not changed, and may be training at the same time.
    out : path, optional
        The directory of the copy.
    reporter : Reporter, optional
    tensorboard : path, optional
        As for `train`.
    **budget
        One of `minutes`, `epochs` and `steps`: the new total length of the run, including the part
        that is done. From here on the learning rate follows the schedule of that length, so a run
        that had finished, or that `patience` had ended, can continue. An interrupted run that is
        already that long ends with its last evaluation.

    Raises
    ------
    CheckpointError
        If there is no run to continue.
    ConfigError
        For an invalid budget.
    CorpusError
        If the corpus cannot be read any more, or has changed.
    """
    directory = Path(directory)
    lengthened = any(value is not None for value in budget.values())
    if (cool_down is None) != (out is None):
        raise ConfigError(
            "--cool-down needs a folder for the copy: give --cool-down MINUTES and --out together"
        )
    if cool_down is not None and lengthened:
        raise ConfigError("--cool-down is the budget of the copy: leave other budgets out")
    target = directory if out is None else Path(out)
    with joined_ranks() as ranks, ExitStack() as stack:
        reporter = reporter if reporter and ranks.is_main else Reporter()

        def claim_and_read() -> tuple[SavedRun, TrainConfig]:
            if out is None:
                stack.enter_context(writing_lock(target))
            else:  # a run that is resumed takes no --force
                stack.enter_context(locked_for_run(target, advice="choose another --out"))
            saved = read_run(directory)
            if out is None:
                checkpoint.check_writable(target)
            return saved, with_new_budget(saved.config, budget)

        saved, longer = ranks.broadcast(claim_and_read)
        session, loop = _restored_session(saved, target, ranks, reporter)
        had_finished = loop.finished
        if lengthened:
            _change_budget(loop, longer, reporter)
        elif cool_down is not None:
            loop.set_budget(cooldown_config(loop, cool_down))
        if had_finished and loop.finished:
            reporter.note(f"{directory} has finished: nothing is left to do")
            return session.outcome(loop)
        first_step = loop.progress.step + 1
        events = log_to_tensorboard(
            loop.log, tensorboard if ranks.is_main else None, target, first_step
        )
        stack.enter_context(events)
        loop.task.progress.final_nats = None
        _announce(saved, loop, reporter)
        return session.run(loop)


def _restored_session(
    saved: SavedRun, target: Path, ranks: Ranks, reporter: Reporter
) -> tuple[Session, Loop[LanguageModelling]]:
    """Return the run's parts and its loop, restored to the saved state."""
    text = saved.text(ranks, reporter)
    device = set_up_device(saved.config, ranks)
    step = saved.state["progress"]["step"]
    log = Log(checkpoint.read_metrics(saved.directory, step) if ranks.is_main else ())
    session = Session(target, text, device, ranks, reporter, log, saved.documents)
    seed_everything(saved.config.seed, saved.config.deterministic)
    loop = session.loop(saved.plan)
    best = {name: value.clone() for name, value in saved.model.state_dict().items()}
    with storage.convert_restore_errors(saved.directory):
        loop.restore(saved.state, saved.stored.tensors_in("training"), best)
    return session, loop


def _announce(saved: SavedRun, loop: Loop[LanguageModelling], reporter: Reporter) -> None:
    """Report the step at which the run continues, and a change in the number of processes."""
    reporter.note(f"continuing from step {loop.progress.step}")
    before, now = saved.state.get("ranks", 1), loop.task.ranks.size
    if before != now:
        reporter.note(
            f"the run had {_processes_in_words(before)} and continues with "
            f"{_processes_in_words(now)}: each stream of text continues where it stopped; dropout "
            "draws different random numbers from here on"
        )


def _processes_in_words(count: int) -> str:
    return "one process" if count == 1 else f"{count} ranks"


# ---------------------------------------------------------------- another budget


def _change_budget(loop: Loop[LanguageModelling], config: TrainConfig, reporter: Reporter) -> None:
    """Give the run the budget of `config`; report it if the learning rate rises again."""
    before = _rate_factor(loop)
    loop.set_budget(config)
    now = _rate_factor(loop)
    if now > before + 1e-3:
        reporter.note(
            f"the learning rate rises again, from {before:.0%} to {now:.0%} of its maximum: it "
            "had begun to fall towards the end of the shorter budget (see --schedule)"
        )


def _rate_factor(loop: Loop[LanguageModelling]) -> float:
    """Share of the highest learning rate that the schedule now gives, without warm-up."""
    config = loop.task.config
    return schedule_factor(loop.share_done, config.schedule, config.cooldown)


def cooldown_config(loop: Loop[LanguageModelling], minutes: float) -> TrainConfig:
    """Return the settings with which the learning rate falls to zero within some minutes.

    Raises `ConfigError` if the rate is already zero or the number of minutes is not positive.
    """
    check_argument("--cool-down", minutes, float, above=0)
    factor = _rate_factor(loop)
    if not factor > 0:
        raise ConfigError("--cool-down: the learning rate of this run is already zero")
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


# ---------------------------------------------------------------- the saved run


@dataclass(frozen=True)
class SavedRun:
    """A run that can be continued."""

    directory: Path
    stored: checkpoint.Checkpoint
    config: TrainConfig
    model: Network  # with the best weights so far
    vocabulary: Vocabulary

    @property
    def documents(self) -> dict[str, Any]:
        """What later checkpoints repeat: "corpus", "plan" and "precision"."""
        config = self.stored.document("config")
        return {name: config[name] for name in ("corpus", "plan", "precision")}

    @property
    def state(self) -> dict[str, Any]:
        return self.stored.document("training/state")

    @property
    def plan(self) -> recipes.Plan:
        saved = self.documents["plan"]
        return recipes.Plan(
            self.model.config, self.config, saved["reading"], tuple(saved["reasons"])
        )

    def text(self, ranks: Ranks, reporter: Reporter) -> Corpus:
        """Return the corpus of the run, on every rank.

        Raises `CorpusError` if the corpus cannot be read any more or has changed; `CheckpointError`
        if it cannot be the corpus of this run.
        """
        where, saved = str(self.directory), self.documents["corpus"]
        reverse = self.model.config.direction == "backward"

        def read(document: dict[str, Any], vocabulary: Vocabulary | None) -> Corpus:
            load = partial(resumed_corpus, where, document, reverse, reporter, vocabulary)
            return corpus_on_all_ranks(ranks, load, document, reverse, vocabulary)

        text = read(saved, self.vocabulary if "start_from" in saved else None)
        if text.vocabulary != self.vocabulary:
            raise CheckpointError(f"{where}: vocabulary.json is not that of the corpus")
        if "replay" in saved:
            # Runs of earlier versions read the documents of both texts in the same way.
            fields = saved["config"] | saved.get("replay_documents", {})
            config = asdict(without_validation(saved_config(where, {"config": fields})))
            replay = {"arguments": [saved["replay"]], "config": config, "key": saved["replay_key"]}
            text = with_replay(text, read(replay, self.vocabulary), saved["replay_share"])
        streams = self.config.batch_size or 0
        if not 0 < 2 * streams <= len(text.train):
            raise CheckpointError(
                f"{where}: config.json: train.batch_size is {brief(self.config.batch_size)}, and "
                f"the text has {len(text.train):,} symbols"
            )
        return text


def read_run(directory: Path) -> SavedRun:
    """Read the checkpoint of a run; see `saved_run` for the errors."""
    return saved_run(checkpoint.load(directory, storage.KIND, training=True))


def saved_run(stored: checkpoint.Checkpoint) -> SavedRun:
    """Return the run in a checkpoint; raises `CheckpointError` if there is no run to continue."""
    assert stored.path is not None
    directory, document = stored.path, stored.document("config")
    if "training/state" not in stored.documents:
        raise CheckpointError(f"{directory} has no training state: it cannot be resumed")
    with storage.convert_restore_errors(directory):
        _check_documents(document, stored.document("training/state"))
    config = storage.config_from_json(
        TrainConfig, document.get("train"), f"{directory}: config.json"
    )
    return SavedRun(directory, stored, config, *storage.unpack(stored))


def _check_documents(config: dict[str, Any], state: dict[str, Any]) -> None:
    """Raise an error if an entry that a resumed run needs is missing or has the wrong type."""
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
    if "replay" in corpus:
        fields |= {
            "corpus.replay": (corpus["replay"], str),
            "corpus.replay_key": (corpus["replay_key"], str),
            "corpus.replay_share": (corpus["replay_share"], float),
            "corpus.replay_documents": (corpus.get("replay_documents", {}), dict),
        }
    for name, (value, kind) in fields.items():
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{name} is {brief(value)}")
    if not all(isinstance(name, str) for name in corpus["arguments"]):
        raise ValueError("corpus.arguments are not names")
    if "replay" in corpus and not 0 < corpus["replay_share"] < 1:
        raise ValueError(f"corpus.replay_share is {brief(corpus['replay_share'])}")
    if not 0 < plan["reading"] <= sys.float_info.max:
        raise ValueError(f"plan.reading is {brief(plan['reading'])}")
    if config["precision"] not in ("float32", "bfloat16"):
        raise ValueError(f"precision is {brief(config['precision'])}")
