"""Train a classifier on labelled texts and a language model: `chargen.finetune`.

This module starts and resumes a run; `learning.py` trains the members.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from chargen.errors import CheckpointError, ConfigError, CorpusError, brief, spelled
from chargen.lm import storage as lm_storage
from chargen.lm.config import TrainConfig
from chargen.lm.model import CharLM
from chargen.options import flag, split_options, with_new_budget
from chargen.runtime.device import restored_settings, set_up_device
from chargen.runtime.distributed import refuse_torchrun
from chargen.runtime.precision import REFERENCE_FLOPS, PrecisionChoice, run_precision
from chargen.runtime.seeds import seed_everything
from chargen.sentiment import metrics, storage
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.config import ExamplesConfig, FinetuneConfig, NetworkConfig
from chargen.sentiment.examples import Examples, read_examples
from chargen.sentiment.learning import FinetuneRun, NetworkTraining, Setup, learn_probe
from chargen.sentiment.network import ClassifierNetwork, unknown_characters
from chargen.sentiment.splitting import read_training_texts
from chargen.storage import checkpoint, shipped
from chargen.storage.directories import real_path
from chargen.storage.outputs import locked_for_run, writing_lock
from chargen.text.vocabulary import Vocabulary, replace_surrogates
from chargen.training.continuing import adapt
from chargen.training.reporting import Log, Reporter, log_to_tensorboard

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from chargen.keywords import FinetuneOptions

FEWEST_EPOCHS, MOST_EPOCHS = 2.0, 20.0

FINETUNE_FROM = 5_000
"""Number of labelled texts from which fine-tuning pays (measured with 2,000 and 6,920)."""

VALID_FRACTION = 0.1
"""Share of the labelled texts that is held back when a network is fine-tuned."""

UNUSED_OPTIONS = {
    "finetune": ("penalty",),
    "probe": (
        *("minutes", "epochs", "batch_size", "window", "learning_rate", "encoder_rate"),
        *("lm_weight", "weight_decay", "clip", "ema", "patience", "evaluations", "eval_every"),
        *("checkpoint_every", "detectors", "head_size", "head_dropout"),
    ),
}
"""Options without effect, by method."""


@restored_settings()
def finetune(
    data: str | Path | Examples | tuple[Any, Any] | Any,
    encoder: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    config: FinetuneConfig | None = None,
    network: NetworkConfig | None = None,
    reading: ExamplesConfig | None = None,
    force: bool = False,
    reporter: Reporter | None = None,
    tensorboard: str | Path | None = None,
    **options: Unpack[FinetuneOptions],
) -> FinetuneRun:
    """Train a text classifier on a language model.

    Parameters
    ----------
    data : path, Examples, (texts, labels), or data frame
        Labelled texts: the path of a table, or of a folder with one sub-folder for each class; two
        lists; or a data frame, whose columns of texts and labels are found as in a table. Examples
        were read already: they are neither cleaned nor renamed again.
    encoder : path, or two of them
        Checkpoints of language models: one, or a forward and a backward one.
    out : path, optional
        The classifier's directory. Without it no files are kept, and `FinetuneRun.directory` is
        None.
    config, network, reading : FinetuneConfig, NetworkConfig, ExamplesConfig, optional
        Settings of training, sizes of the network, and how the data is read; `options` take
        precedence over their fields.
    force : bool
        Replace an existing checkpoint at `out`.
    reporter : Reporter, optional
        Receives progress and messages; by default nothing is shown.
    tensorboard : path, optional
        Folder for event files of TensorBoard; the run makes a folder of its own in it.
    **options
        Fields of `FinetuneConfig`, `NetworkConfig` and `ExamplesConfig`. `valid` and `unlabelled`
        are paths, even if `data` is not.

    Raises
    ------
    ConfigError, CorpusError, CheckpointError, TrainingError, MissingExtraError

    Examples
    --------
    >>> run = chargen.finetune("reviews.csv", "checkpoints/reviews", "mood")  # doctest: +SKIP
    >>> run.classifier.predict(["A quiet, wonderful film."])  # doctest: +SKIP
    ['pos']
    >>> run = chargen.finetune((frame["body"], frame["stars"]), "reviews")  # doctest: +SKIP
    """
    refuse_torchrun("chargen sentiment train")
    owners = (FinetuneConfig, NetworkConfig, ExamplesConfig)
    config, sizes, reading = split_options(
        options, *owners, given_configs=(config, network, reading)
    )
    metrics.require_sklearn("fine-tuning")
    encoders = [encoder] if isinstance(encoder, str | Path) else encoder
    _check_encoders(encoders, out)
    reporter, log = reporter or Reporter(), Log()
    with _claimed(out, force) as directory:
        loaded = [_encoder(path, reporter) for path in encoders]
        examples = data if isinstance(data, Examples) else read_examples(data, reading)
        config = _with_method(config, len(examples), reporter)
        _note_unused(config, sizes, reporter)
        probed = config.method == "probe"
        if tensorboard is not None and probed:
            raise ConfigError(
                "--tensorboard needs training steps, but a probe has none: leave it out, or give "
                "--method finetune"
            )
        texts = read_training_texts(examples, config, reading, reporter)
        if config.patience is not None and not (probed or len(texts.valid)):
            reporter.note("--patience has no effect: there is no validation text")
        config = _with_budget(config, len(texts.train), reporter)
        device = set_up_device(config)
        precision = run_precision(config, device, timed=config.adapt is not None)
        documents = {
            "encoder": [str(path) for path in encoders],
            "data": [str(data)] if isinstance(data, str | Path) else [],
        }
        vocabularies = tuple(vocabulary for _, vocabulary in loaded)
        setup = Setup(
            directory, texts, config, reading, vocabularies, precision.name, reporter, log,
            documents,
        )  # fmt: skip
        models = [lm for lm, _ in loaded]
        with log_to_tensorboard(log, tensorboard, directory):
            model = _new_network(setup, models, sizes, device, precision)
            run = learn_probe(setup, model) if probed else NetworkTraining(setup, model).run()
        return run if out is not None else replace(run, directory=None)


@contextmanager
def _claimed(out: str | Path | None, force: bool) -> Iterator[Path]:
    """Lock and yield the directory of a run; without `out`, a temporary one."""
    if out is None:
        with TemporaryDirectory() as folder:
            yield Path(folder) / "classifier"
        return
    directory = Path(out)
    with locked_for_run(directory, force):
        yield directory


def _check_encoders(encoders: Sequence[str | Path], out: str | Path | None) -> None:
    if not isinstance(encoders, list | tuple) or not all(
        isinstance(e, str | Path) for e in encoders
    ):
        raise ConfigError(f"--encoder must be the path of a language model, got {brief(encoders)}")
    if not 1 <= len(encoders) <= 2:
        raise ConfigError("--encoder takes one language model, or a forward and a backward one")
    places = {real_path(shipped.resolve(Path(path))) for path in encoders}
    if len(places) < len(encoders):
        raise ConfigError(f"--encoder {encoders[0]} is given twice: give two different ones")
    if out is not None and real_path(out) in places:
        raise ConfigError(f"--out {out} is the folder of the encoder: choose another folder")


def _encoder(path: str | Path, reporter: Reporter) -> tuple[CharLM, Vocabulary]:
    model, vocabulary, _ = lm_storage.load(path)
    if vocabulary.level == "raw":
        raise ConfigError(
            f"--encoder {path} was trained on raw bytes, and a classifier reads text: give "
            "another model"
        )
    if (count := len(model.members)) > 1:
        reporter.note(f"{path} has {count} networks: the classifier uses the first")
    return model.members[0], vocabulary


def _with_method(config: FinetuneConfig, labels: int, reporter: Reporter) -> FinetuneConfig:
    """The configuration with `method` and `valid_fraction` filled in."""
    method, fraction = config.method, config.valid_fraction
    if method == "auto":
        few = min(config.labels or labels, labels) < FINETUNE_FROM
        asked = config.from_scratch or config.minutes is not None or config.epochs is not None
        method = "probe" if few and not asked else "finetune"
        if method == "probe":
            reporter.note(
                f"fewer than {FINETUNE_FROM:,} labels: the encoder stays as it is "
                "(--method finetune trains it)"
            )
    if fraction is None and config.valid is None:
        fraction = 0.0 if method == "probe" else VALID_FRACTION
    return replace(config, method=method, valid_fraction=fraction)


def _note_unused(config: FinetuneConfig, sizes: NetworkConfig, reporter: Reporter) -> None:
    """Note the options that differ from their defaults but have no effect beside the others."""
    values = vars(config) | vars(sizes)
    for choice, names in (
        (f"--method {config.method}", UNUSED_OPTIONS[config.method]),
        ("--from-scratch", ("encoder_rate",) if config.from_scratch else ()),
    ):
        unused = [
            flag(field)
            for field, _ in (*config.typed_fields(), *sizes.typed_fields())
            if field.name in names and values[field.name] != field.default
        ]
        if unused:
            reporter.note(f"without effect with {choice}: {', '.join(unused)}")


def _with_budget(config: FinetuneConfig, labels: int, reporter: Reporter) -> FinetuneConfig:
    if config.minutes is not None or config.epochs is not None or config.method == "probe":
        return config
    # Few labels are read more often: 100 texts 20 times, 2,000 nine times, 25,000 three times.
    epochs = float(round(min(MOST_EPOCHS, max(FEWEST_EPOCHS, 400 / labels**0.5))))
    reporter.note(f"no budget was given: {epochs:g} passes over {labels:,} labelled texts")
    return replace(config, epochs=epochs)


def _new_network(
    setup: Setup,
    trained: Sequence[CharLM],
    sizes: NetworkConfig,
    device: torch.device,
    precision: PrecisionChoice,
) -> ClassifierNetwork:
    """Build the network on the language models, adapted if asked for.

    With `from_scratch`, language models of the same sizes with random weights are used.
    """
    texts, config, reporter = setup.texts, setup.config, setup.reporter
    seed_everything(config.seed, config.deterministic)
    if unknown := unknown_characters("".join(texts.train.texts), setup.vocabularies):
        more = f" and {len(unknown) - 20} more" if len(unknown) > 20 else ""
        listed = spelled(unknown[:20]) + more
        reporter.note(f"the encoder has never seen these characters: {listed}")
    models = [(CharLM(each.config) if config.from_scratch else each).to(device) for each in trained]
    valid = f", {len(texts.valid):,} to validate on" if len(texts.valid) else ""
    reporter.note(
        f"{len(texts.train):,} texts to learn from{valid}, "
        f"{len(texts.classes)} classes; {precision.name}: {precision.reason}"
    )
    if config.adapt is not None:
        read = [replace_surrogates(text) for text in (*texts.train.texts, *texts.unlabelled)]
        budget = TrainConfig(minutes=config.adapt / len(models), seed=config.seed)
        speed = REFERENCE_FLOPS / precision.seconds_per_step
        for model, vocabulary in zip(models, setup.vocabularies, strict=True):
            adapt(model, vocabulary, read, budget, precision.name, speed, reporter)
    sizes = replace(sizes, num_classes=len(texts.classes))
    if config.method == "probe":
        sizes = replace(sizes, detectors=0, head_size=0, head_dropout=0.0)
    return ClassifierNetwork(models, sizes).to(device)


# ---------------------------------------------------------------- resuming


@restored_settings()
def resume_finetune(
    directory: str | Path,
    *,
    data: Any = None,
    reporter: Reporter | None = None,
    tensorboard: str | Path | None = None,
    **budget: float | None,
) -> FinetuneRun:
    """Continue a run from its last checkpoint.

    On a CPU, with a budget in epochs and the same number of threads, the result equals that of a
    run that was never interrupted, bit for bit.

    Parameters
    ----------
    directory : path
    data : optional
        The same labelled texts again, if they came from Python and not from a path.
    reporter, tensorboard : optional
        As for `chargen.finetune`.
    **budget
        `minutes` or `epochs`: the new total length of the run, including the part that is done. A
        run that has finished, or that `patience` has ended, can continue. An interrupted run that
        is already that long ends with its last evaluation.

    Raises
    ------
    CheckpointError
        If there is no run to continue.
    ConfigError
        For an invalid budget.
    CorpusError
        If the labelled texts cannot be read any more, or have changed.
    MissingExtraError
        If scikit-learn is not installed.
    """
    refuse_torchrun("chargen sentiment train")
    metrics.require_sklearn("fine-tuning")
    directory, reporter = Path(directory), reporter or Reporter()
    with writing_lock(directory):
        stored = checkpoint.load(directory, storage.KIND, training=True)
        checkpoint.check_writable(directory)
        setup, network = _restored_setup(directory, stored, data, reporter)
        longer = with_new_budget(setup.config, budget)
        best = storage.weights_of(network)
        network.to(set_up_device(setup.config))
        seed_everything(setup.config.seed, setup.config.deterministic)
        with lm_storage.convert_restore_errors(directory):
            training = NetworkTraining(setup, network)
            loop = training.loop
            state = stored.document("training/state")
            loop.restore(state, stored.tensors_in("training"), best)
        had_finished = loop.finished
        if longer is not setup.config:
            loop.set_budget(longer)
        if had_finished and loop.finished:
            reporter.note(f"{directory} has finished: nothing is left to do")
            made = Classifier.load(directory, str(set_up_device(setup.config)))
            return setup.outcome(made, loop.task.progress, finished=True)
        loop.task.progress.final = {}  # the members are weighted again when the run ends
        if loop.best:
            loop.best["temperature"] = torch.ones(())
        step = loop.progress.step
        reporter.note(f"continuing from step {step}")
        with log_to_tensorboard(loop.log, tensorboard, directory, step + 1):
            return training.run()


def _restored_setup(
    directory: Path, stored: checkpoint.Checkpoint, data: Any, reporter: Reporter
) -> tuple[Setup, ClassifierNetwork]:
    """Restore the setup of a run, with its texts read again, and its network.

    Raises
    ------
    CheckpointError, CorpusError
    """
    document, where = stored.document("config"), f"{directory}: config.json"
    if "training/state" not in stored.documents or "data" not in document:
        raise CheckpointError(f"{directory} has no training state: it cannot be resumed")
    config = lm_storage.config_from_json(FinetuneConfig, document.get("finetune"), where)
    reading = lm_storage.config_from_json(ExamplesConfig, document.get("examples"), where)
    with lm_storage.convert_restore_errors(directory):
        step = stored.document("training/state")["progress"]["step"]
        log = Log(checkpoint.read_metrics(directory, step))
        documents = {name: document[name] for name in ("encoder", "data")}
        saved = [str(name) for name in document["data"]]
        precision = document["precision"]
    if data is None and not saved:
        raise CorpusError(
            f"the labelled texts of {directory} came from Python and were not saved: continue with "
            "chargen.resume_finetune(directory, data=...)"
        )
    data = saved[0] if data is None else data
    texts = read_training_texts(data, config, reading, Reporter())
    if texts.digest != document.get("digest"):
        name = f" ({data})" if isinstance(data, str | Path) else ""
        raise CorpusError(
            f"the labelled texts of {directory}{name} have changed: a run can only continue "
            "with the same texts"
        )
    network, vocabularies = storage.unpack_network(stored)
    setup = Setup(
        directory, texts, config, reading, vocabularies, precision, reporter, log, documents
    )
    return setup, network
