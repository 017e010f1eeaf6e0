"""From labelled texts and a language model to a classifier: `chargen.finetune`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from chargen.errors import CheckpointError, ConfigError, CorpusError
from chargen.lm import storage as lm_storage
from chargen.options import extended, split_options
from chargen.runtime.distributed import one_process_only
from chargen.sentiment import metrics, storage
from chargen.sentiment.config import ExamplesConfig, FinetuneConfig, NetworkConfig
from chargen.sentiment.examples import Examples
from chargen.sentiment.material import read_material
from chargen.sentiment.session import FinetuneRun, Session
from chargen.storage import checkpoint
from chargen.storage.outputs import refuse_to_overwrite, writing_lock
from chargen.training.reporting import Reporter

FEWEST_EPOCHS, MOST_EPOCHS = 2.0, 20.0


def finetune(
    data: str | Path | Examples | tuple[Any, Any] | Any,
    encoder: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    force: bool = False,
    reporter: Reporter | None = None,
    **options: Any,
) -> FinetuneRun:
    """Teach a language model to tell classes of texts apart, and leave a classifier.

    Parameters
    ----------
    data : path, Examples, (texts, labels), or data frame
        Labelled texts: the path of a table, or of a folder with one sub-folder a class; two lists;
        or columns by name, of which those of the texts and the labels are found as in a table.
    encoder : path, or two of them
        Checkpoints of language models: one, or a forward and a backward one.
    out : path, optional
        The classifier's directory; without it nothing is kept but the result.
    force : bool
        Replace what stands at `out`.
    reporter : Reporter, optional
        Hears of the progress; silent by default.
    **options
        Fields of `FinetuneConfig`, `NetworkConfig` and `ExamplesConfig`.

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
    one_process_only("chargen sentiment train")
    config, sizes, reading = split_options(options, FinetuneConfig, NetworkConfig, ExamplesConfig)
    metrics.require("fine-tuning")
    encoders = [encoder] if isinstance(encoder, str | Path) else list(encoder)
    if not 1 <= len(encoders) <= 2:
        raise ConfigError("--encoder takes one language model, or a forward and a backward one")
    places = {Path(path).resolve() for path in encoders}
    if len(places) < len(encoders):
        raise ConfigError(f"--encoder {encoders[0]} is given twice: give two different ones")
    with ExitStack() as stack:
        if out is None:
            directory = Path(stack.enter_context(TemporaryDirectory())) / "classifier"
        else:
            directory = Path(out)
            if directory.resolve() in places:
                raise ConfigError(f"--out {directory} is the encoder itself: choose another folder")
            refuse_to_overwrite(directory, force)
            stack.enter_context(writing_lock(directory))
            checkpoint.check_writable(directory)
        reporter = reporter or Reporter()
        loaded = [lm_storage.load(path)[:2] for path in encoders]
        texts = read_material(data, config, reading, reporter)
        config = _with_budget(config, len(texts.train), reporter)
        if config.method == "probe":
            sizes = replace(sizes, detectors=0, head_size=0, head_dropout=0.0)
        session = Session(directory, texts, config, reading, reporter)
        models = session.take_encoders(loaded)
        sizes = replace(sizes, num_classes=len(texts.classes))
        saved = {"encoder": [str(path) for path in encoders]}
        saved["data"] = [str(data)] if isinstance(data, str | Path) else []
        run = session.run(models, sizes, saved)
        return run if out is not None else replace(run, directory=None)


def resume_finetune(
    directory: str | Path,
    *,
    data: Any = None,
    reporter: Reporter | None = None,
    **budget: float | None,
) -> FinetuneRun:
    """Go on with an interrupted run, exactly where its last checkpoint was written.

    Parameters
    ----------
    directory : path
    data : optional
        The same labelled texts again, where they came from Python and not from a path.
    reporter : Reporter, optional
    **budget
        `minutes` or `epochs`: the new length of the whole run, what is done counted.

    Raises
    ------
    CheckpointError
        Where there is no run to go on with.
    ConfigError
        For a budget that cannot be.
    CorpusError
        Where the labelled texts cannot be read any more, or are others.
    """
    one_process_only("chargen sentiment train")
    directory = Path(directory)
    reporter = reporter or Reporter()
    with writing_lock(directory):
        stored = checkpoint.load(directory, storage.KIND, training=True)
        document = stored.document("config")
        if "training/state" not in stored.documents or "data" not in document:
            raise CheckpointError(f"{directory} holds no training state: it cannot be resumed")
        where = f"{directory}: config.json"
        config = lm_storage.config_from_json(FinetuneConfig, document.get("finetune"), where)
        config = extended(config, budget)
        reading = lm_storage.config_from_json(ExamplesConfig, document.get("examples"), where)
        if data is None and not document["data"]:
            raise CorpusError(
                f"the labelled texts of {directory} came from Python and are not kept: go on with "
                "chargen.resume_finetune(directory, data=...)"
            )
        data = document["data"][0] if data is None else data
        texts = read_material(data, config, reading, Reporter())
        if texts.digest != document.get("digest"):
            name = f" ({data})" if isinstance(data, str | Path) else ""
            raise CorpusError(
                f"the labelled texts of {directory}{name} have changed since: "
                "a run can only go on with the same texts"
            )
        session = Session(directory, texts, config, reading, reporter, document["precision"])
        return session.resume(stored)


def _with_budget(config: FinetuneConfig, labels: int, reporter: Reporter) -> FinetuneConfig:
    if config.minutes is not None or config.epochs is not None or config.method == "probe":
        return config
    # Few labels are read more often: 100 texts 20 times, 2,000 nine times, 25,000 three times.
    epochs = float(round(min(MOST_EPOCHS, max(FEWEST_EPOCHS, 400 / labels**0.5))))
    reporter.note(f"no budget was given: {epochs:g} passes over {labels:,} labelled texts")
    return replace(config, epochs=epochs)
