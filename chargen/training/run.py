"""Start a training run, from corpus to checkpoint: `chargen.train`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from chargen.errors import CheckpointError, ConfigError, CorpusError, brief
from chargen.lm import recipes
from chargen.lm.config import REPLAY_SHARE, ModelConfig, TrainConfig, required
from chargen.options import split_options
from chargen.runtime.device import restored_settings, set_up_device
from chargen.runtime.distributed import Ranks, refuse_torchrun
from chargen.runtime.precision import REFERENCE_FLOPS, run_precision
from chargen.runtime.process_group import joined_ranks
from chargen.runtime.seeds import seed_everything
from chargen.storage import checkpoint
from chargen.storage.outputs import locked_for_run
from chargen.storage.verified import check_size
from chargen.text.config import CorpusConfig
from chargen.text.corpus import Corpus, load_corpus
from chargen.text.fetching import valid_part
from chargen.text.files import refuse_text
from chargen.text.given import given_list, given_texts
from chargen.text.sources import corpus_name
from chargen.training.continuing import Start, read_start, refuse_backward_labels
from chargen.training.corpora import corpus_on_all_ranks
from chargen.training.reporting import Log, Reporter, log_to_tensorboard
from chargen.training.session import Run, Session

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from chargen.keywords import TrainOptions


@restored_settings()
def train(
    corpus: str | Path | Sequence[str | Path] | None = None,
    out: str | Path | None = None,
    *,
    texts: Iterable[str] | None = None,
    config: TrainConfig | None = None,
    model: ModelConfig | None = None,
    reading: CorpusConfig | None = None,
    start_from: str | Path | None = None,
    replay: str | Path | None = None,
    replay_share: float = REPLAY_SHARE,
    force: bool = False,
    reporter: Reporter | None = None,
    tensorboard: str | Path | None = None,
    **options: Unpack[TrainOptions],
) -> Run:
    """Train a language model on text and write a checkpoint.

    Parameters
    ----------
    corpus : name, path, or several of them
        As on the command line: a file, a folder, ``python-docs``, ``-``.
    out : path, optional
        The checkpoint's directory; ``checkpoints/<corpus name>`` by default.
    texts : iterable of str, optional
        Texts instead of `corpus`. Several texts are kept apart like the rows of a table unless
        `documents` says otherwise; a single text is read like a file. Such a run can be resumed
        while its encoding is in the cache.
    config, model, reading : TrainConfig, ModelConfig, CorpusConfig, optional
        Settings of training, sizes of the model, and how the text is read; `options` take
        precedence over their fields.
    start_from : path, optional
        A language model whose weights the run starts from. Its sizes are kept and new characters
        are added to its vocabulary. The learning rate is a third of the usual one, and without a
        budget there are few passes. Not with several processes.
    replay : name or path, optional
        With `start_from`: a corpus of old text, of which pieces are mixed in.
    replay_share : float
        Share of old text in all text that is read.
    force : bool
        Replace an existing checkpoint at `out`.
    reporter : Reporter, optional
        Receives progress and messages; by default nothing is shown.
    tensorboard : path, optional
        Folder for event files of TensorBoard; the run makes a folder of its own in it.
    **options
        Fields of `TrainConfig`, `ModelConfig` and `CorpusConfig`.

    Raises
    ------
    ConfigError, CorpusError, VocabularyError, CheckpointError, TrainingError, MissingExtraError

    Examples
    --------
    >>> run = chargen.train("mybook.txt", "checkpoints/mybook", minutes=5)  # doctest: +SKIP
    """
    if replay is not None and start_from is None:
        raise ConfigError("--replay needs --from: give --from DIR too")
    if replay is None and replay_share != REPLAY_SHARE:
        raise ConfigError("--replay-share needs --replay: give --replay CORPUS")
    arguments, texts = _names_and_texts(corpus, texts)
    if texts is not None and len(texts) > 1 and getattr(reading, "documents", None) is None:
        options.setdefault("documents", "rows")
    directory = Path(out) if out is not None else Path("checkpoints") / corpus_name(arguments)
    with joined_ranks() as ranks, ExitStack() as stack:
        reporter = reporter if reporter and ranks.is_main else Reporter()

        def claim() -> tuple[TrainConfig, ModelConfig, CorpusConfig]:
            owners = (TrainConfig, ModelConfig, CorpusConfig)
            configs = split_options(options, *owners, given_configs=(config, model, reading))
            refuse_backward_labels(configs[1].direction == "backward", configs[2])
            stack.enter_context(locked_for_run(directory, force))
            return configs

        train_config, model_config, corpus_config = ranks.broadcast(claim)
        start = None
        if start_from is not None:
            refuse_torchrun("training on from a model")
            start = read_start(start_from, replay, replay_share, corpus_config)
            model_config = start.model_config(model_config, options)
            corpus_config = start.reading(corpus_config, arguments, options)
        log = Log()
        events = log_to_tensorboard(log, tensorboard if ranks.is_main else None, directory)
        stack.enter_context(events)
        reverse = model_config.direction == "backward"
        text, corpus_saved = _load_run_corpus(
            arguments, texts, corpus_config, reverse, ranks, reporter, start
        )
        if train_config.patience is not None and not len(text.valid):
            reporter.note("--patience has no effect: there is no validation text")
        if train_config.cooldown != TrainConfig.cooldown and train_config.schedule == "cosine":
            reporter.note("--cooldown has no effect: it is for --schedule constant-cooldown")
        model_config = replace(model_config, vocabulary_size=text.vocabulary.size)
        device = set_up_device(train_config, ranks)
        plan, precision = _choose_plan(
            model_config, train_config, text, device, ranks, reporter, start
        )
        seed_everything(plan.train.seed, plan.train.deterministic)
        documents = {
            "corpus": corpus_saved,
            "plan": {"reading": plan.characters_read, "reasons": plan.reasons},
            "precision": precision,
        }
        weights = start.weights(text.vocabulary) if start else None
        session = Session(directory, text, device, ranks, reporter, log, documents, weights)
        return session.run(session.loop(plan))


def _names_and_texts(
    corpus: str | Path | Sequence[str | Path] | None, texts: Iterable[str] | None
) -> tuple[tuple[str, ...], list[str] | None]:
    """Return the names of the corpora, or the texts given instead."""
    if (corpus is None) == (texts is None):
        raise ConfigError("give either a corpus (a file, a folder, a name) or texts=[...]")
    given = [corpus] if isinstance(corpus, str | Path) else corpus
    names = () if given is None else tuple(_name(name) for name in given_list(given, "corpus"))
    for name in names:
        refuse_text(name)
    try:
        saved = checkpoint.to_json({"corpus": {"arguments": names}})
        check_size(Path("config.json"), saved)
    except CheckpointError as error:
        raise ConfigError(
            f"{len(names):,} names of corpora are too many to be saved with the run: name a folder "
            "instead of its files"
        ) from error
    return names, None if texts is None else list(given_texts(texts))


def _name(value: Any) -> str:
    if not isinstance(value, str | Path):
        raise CorpusError(f"corpus must be a name or a path, or a list of them, got {brief(value)}")
    return str(value)


def _load_run_corpus(
    arguments: Sequence[str],
    texts: Iterable[str] | None,
    config: CorpusConfig,
    reverse: bool,
    ranks: Ranks,
    reporter: Reporter,
    start: Start | None,
) -> tuple[Corpus, dict[str, Any]]:
    """Return the corpus of a new run, and what its checkpoint records of the corpus."""
    if config.valid is None and (part := valid_part(arguments)):
        config = replace(config, valid=part)
        reporter.note(f"validation text: {part}")
    saved: dict[str, Any] = {"arguments": arguments, "config": asdict(config)}

    def load() -> Corpus:
        if start is not None:
            return start.corpus(arguments, config, texts, reporter)
        return load_corpus(arguments, config, texts=texts, reverse=reverse, progress=reporter.stage)

    text = corpus_on_all_ranks(ranks, load, saved, reverse)
    saved |= start.to_document() if start else {}
    for note in text.notes:
        reporter.note(note)
    replayed = {} if text.replay_key is None else {"replay_key": text.replay_key}
    return text, {**saved, **replayed, "key": text.key}


def _choose_plan(
    model_config: ModelConfig,
    train_config: TrainConfig,
    text: Corpus,
    device: torch.device,
    ranks: Ranks,
    reporter: Reporter,
    start: Start | None,
) -> tuple[recipes.Plan, str]:
    """Return a plan without open choices, and the precision; rank 0 decides for all ranks."""
    # A budget in minutes, the default, makes the sizes depend on the speed.
    timed = not (train_config.steps or train_config.epochs)
    precision = ranks.broadcast(lambda: run_precision(train_config, device, timed=timed))
    speed = ranks.size * REFERENCE_FLOPS / precision.seconds_per_step

    def choose() -> recipes.Plan:
        train = start.train_config(train_config, len(text.train)) if start else train_config
        plan = recipes.plan(model_config, train, len(text.train), speed)
        plan = start.plan(plan, train) if start else plan
        ranks.own_streams(required(plan.train.batch_size))  # raises an error for too few streams
        return plan

    plan = ranks.broadcast(choose)
    for reason in (*plan.reasons, f"{precision.name}: {precision.reason}"):
        reporter.note(reason)
    return plan, precision.name
