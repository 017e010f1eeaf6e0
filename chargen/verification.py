"""Verify a checkpoint: its files, its weights, a prediction, and whether its run is reproducible.

What loading a checkpoint checks anyway is not checked again: sizes, hashes and names of files
(`chargen.storage.checkpoint`), shapes and finite weights (`unpack` of each kind of model).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from chargen.errors import (
    ChargenError,
    CheckpointError,
    TrainingError,
    enumerated,
    printable,
)
from chargen.lm import storage as lm_storage
from chargen.lm.config import required
from chargen.lm.model import Network
from chargen.options import check_argument
from chargen.runtime.distributed import refuse_torchrun
from chargen.sentiment import storage as classifier_storage
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.config import FinetuneConfig
from chargen.sentiment.finetune import resume_finetune
from chargen.sentiment.text_classification import make_optimizer
from chargen.storage import checkpoint
from chargen.storage.checkpoint import MANIFEST, Checkpoint
from chargen.training.optimizers import load_optimizer_tensors, make_optimizers
from chargen.training.reporting import Reporter
from chargen.training.resume import resume, saved_run

Report = Callable[[str], None]

SUM_TOLERANCE = 1e-5
"""Largest difference from 1 that the sum of a distribution may have."""

MAX_SYMBOLS = 64
"""Number of symbols that a language model reads in its check, if its vocabulary has as many."""

CHECKED_TEXT = "A quiet, wonderful film."
"""The text that a classifier reads in its check."""


@dataclass(frozen=True)
class Verification:
    """What was verified about a valid checkpoint.

    Attributes
    ----------
    directory : Path
        The folder that was read.
    kind : {"language-model", "classifier"}
    files, bytes : int
        Number and total size of the files in the manifest, which match their sizes and SHA-256.
    tensors, values : int
        Numbers of the model's tensors and of their values, all finite and of the shapes that the
        configuration requires.
    largest_error : float
        Largest difference between the sum of a predicted distribution and 1.
    resumable : bool
        Whether there is a training state; if so, it fits the model.
    replayed : int
        Number of steps that were run twice, with bit-identical results.
    """

    directory: Path
    kind: str
    files: int
    bytes: int
    tensors: int
    values: int
    largest_error: float
    resumable: bool
    replayed: int


def verify(
    directory: str | Path, replay: int = 0, *, reporter: Reporter | None = None
) -> Verification:
    """Check a checkpoint of a language model or a classifier, and the run that it holds.

    Parameters
    ----------
    directory : path
    replay : int
        Number of steps for which two copies of the run continue from the saved state, in temporary
        folders; both must end in the same bits. A classifier may read some more batches, until it
        has read as many texts. Needs the text of the run.
    reporter : Reporter, optional
        Receives a note on each check that passed.

    Raises
    ------
    CheckpointError
        At the first check that fails, or if there is no run to replay.
    TrainingError
        If the copies differ; the message names the tensor.
    CorpusError
        If the text of the run can no longer be read.
    ConfigError
        If `replay` is not a whole number, 0 or more, or under torchrun.

    Examples
    --------
    >>> chargen.verify("checkpoints/mybook", replay=10).replayed  # doctest: +SKIP
    10
    """
    refuse_torchrun("verifying")
    check_argument("--replay", replay, int, low=0)
    report = (reporter or Reporter()).note
    directory = Path(directory)
    stored = checkpoint.load(directory, training=True)
    assert stored.path is not None
    sizes = checkpoint.file_sizes(stored.path)
    report(
        f"{len(sizes)} files, {sum(sizes.values()):,} bytes: sizes and SHA-256 are those of "
        f"{MANIFEST}"
    )
    _report_unverified_files(stored.path, sizes, report)
    resumable = "training/state" in stored.documents
    if stored.kind == lm_storage.KIND:
        error = _check_language_model(stored, resumable, report)
    elif stored.kind == classifier_storage.KIND:
        error = _check_classifier(stored, resumable, report)
    else:
        raise CheckpointError(f"{stored.path} is of a kind that chargen does not know")
    _report_training_state(stored, resumable, report)
    replayed = _replay(directory, stored, replay, report) if replay else 0
    own = [value for name, group in _model_tensors(stored) for value in group.values()]
    return Verification(
        stored.path,
        stored.kind,
        len(sizes),
        sum(sizes.values()),
        len(own),
        sum(value.numel() for value in own),
        error,
        resumable,
        replayed,
    )


def _model_tensors(stored: Checkpoint) -> list[tuple[str, dict[str, Tensor]]]:
    """Return the groups of tensors that belong to the model itself."""
    return [(name, group) for name, group in stored.tensors.items() if "/" not in name]


def _report_unverified_files(path: Path, sizes: Mapping[str, int], report: Report) -> None:
    """Report the other files in the folder, such as the log, which have no hash to check."""
    files = (file for file in path.rglob("*") if not file.is_dir() or file.is_symlink())
    verified = {*sizes, MANIFEST}
    names = (file.relative_to(path).as_posix() for file in files)
    others = sorted(printable(name) for name in names if name not in verified)
    if others:
        report(f"not part of the checkpoint, so not verified: {enumerated(others, 'file')}")


# ---------------------------------------------------------------- models


def _check_language_model(stored: Checkpoint, resumable: bool, report: Report) -> float:
    if resumable:
        run = saved_run(stored)
        model = run.model
        optimizers = make_optimizers(model, run.config, run.documents["precision"])
        _check_training(stored, model, optimizers)
        _check_states(stored, model, run.config.batch_size or 0)
    else:
        model, vocabulary = lm_storage.unpack(stored)
        lm_storage.unpack_counts(stored, vocabulary)
    _report_weights(stored, report)
    ids = torch.arange(min(MAX_SYMBOLS, required(model.config.vocabulary_size)))[:, None]  # (T, 1)
    with torch.no_grad():
        logits, _ = model(ids, model.initial_state(1))
    error = _largest_sum_error(stored, logits.float().softmax(-1))
    report(f"a forward pass: {len(ids)} distributions, their sums within {error:.1e} of 1")
    return error


def _check_classifier(stored: Checkpoint, resumable: bool, report: Report) -> float:
    parts = classifier_storage.unpack(stored)
    if resumable:
        network, _ = classifier_storage.unpack_network(stored)
        where, config = f"{stored.path}: config.json", stored.document("config")
        finetune = lm_storage.config_from_json(FinetuneConfig, config.get("finetune"), where)
        _check_training(stored, network, [make_optimizer(network, finetune)])
    _report_weights(stored, report)
    classifier = Classifier(parts.members, parts.labels, parts.clean, parts.prior, stored)
    error = _largest_sum_error(stored, torch.from_numpy(classifier.predict_proba([CHECKED_TEXT])))
    report(f"a forward pass: {len(parts.labels)} probabilities, their sum within {error:.1e} of 1")
    return error


def _report_weights(stored: Checkpoint, report: Report) -> None:
    for name, group in _model_tensors(stored):
        values = sum(value.numel() for value in group.values())
        report(
            f"{name}.safetensors: {len(group)} tensors of the shapes that config.json asks for, "
            f"{values:,} finite values"
        )


def _largest_sum_error(stored: Checkpoint, probabilities: Tensor) -> float:
    """Return how far sums over the last axis are from 1, or raise `CheckpointError` if too far."""
    error = float((probabilities.double().sum(-1) - 1).abs().max())
    if not error <= SUM_TOLERANCE:  # true for NaN too
        raise CheckpointError(
            f"{stored.path}: a predicted distribution does not sum to 1 but is off by {error:.1e}: "
            "its weights overflow"
        )
    return error


# ---------------------------------------------------------------- the run


def _check_training(
    stored: Checkpoint, model: nn.Module, optimizers: list[torch.optim.Optimizer]
) -> None:
    """Raise `CheckpointError` if the training state is not finite or does not fit the model."""
    groups = stored.tensors_in("training")
    where = f"{stored.path}: training/"
    with lm_storage.convert_restore_errors(stored.path or Path()):
        optimizer = groups.pop("optimizer")
        expected = {"model": model.state_dict(), "average": dict(model.named_parameters())}
        for name in ("model", *({"average"} & groups.keys())):
            lm_storage.check_weights(
                f"{where}{name}.safetensors",
                _float_tensors(expected[name]),
                _float_tensors(groups.pop(name)),
            )
        load_optimizer_tensors(optimizer, *optimizers)
    for name, group in {**groups, "optimizer": optimizer}.items():
        for key, value in _float_tensors(group).items():
            if not value.isfinite().all():
                raise CheckpointError(
                    f"{where}{name}.safetensors: {printable(key)} has values that are not finite "
                    "numbers"
                )


def _check_states(stored: Checkpoint, model: Network, streams: int) -> None:
    """Raise `CheckpointError` unless the state of each stream has the model's shape."""
    with lm_storage.convert_restore_errors(stored.path or Path()):
        expected = {
            str(index): part.expand(-1, streams, -1)  # (num_layers, B, H), without memory for B
            for index, part in enumerate(model.initial_state(1))
        }
    states = stored.tensors_in("training").get("state", {})
    lm_storage.check_weights(f"{stored.path}: training/state.safetensors", expected, states)


def _float_tensors(group: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Select the floats: batch renormalisation keeps integer counts, and generators keep bytes."""
    return {name: value for name, value in group.items() if value.is_floating_point()}


def _report_training_state(stored: Checkpoint, resumable: bool, report: Report) -> None:
    if not resumable:
        report("no training state: nothing to resume")
        return
    count = sum(map(len, stored.tensors_in("training").values()))
    with lm_storage.convert_restore_errors(stored.path or Path()):
        step = stored.document("training/state")["progress"]["step"]
    report(f"training state of step {step}: {count} tensors that fit, all finite")


def _replay(directory: Path, stored: Checkpoint, steps: int, report: Report) -> int:
    """Continue two copies of a run, compare their bits, and return the number of steps taken."""
    if "training/state" not in stored.documents:
        raise CheckpointError(f"{directory} has no training state: it cannot be replayed")
    ends = []
    progress = stored.document("training/state")["progress"]
    with TemporaryDirectory(prefix="chargen-") as folder:
        for name in ("first", "second"):
            copy = Path(folder) / name
            checkpoint.save(copy, stored)
            try:
                if stored.kind == lm_storage.KIND:
                    last = resume(copy, steps=progress["step"] + steps).steps
                else:
                    last = resume_finetune(copy, epochs=_epochs(stored, steps)).steps
            except ChargenError as error:
                error.args = (str(error).replace(str(copy), str(directory)),)
                raise
            ends.append(checkpoint.load(copy, training=True).tensors)
    first, second = ends
    for name in sorted(first.keys() | second.keys()):
        left, right = first.get(name, {}), second.get(name, {})
        for key in sorted(left.keys() | right.keys()):
            if key not in left or key not in right or _bits(left[key]) != _bits(right[key]):
                raise TrainingError(
                    f"{directory} does not continue reproducibly: after {steps} steps, "
                    f"{printable(key)} of {name}.safetensors differs between two copies; see "
                    "--deterministic"
                )
    replayed = int(last - progress["step"])
    report(f"replay: {replayed} steps from step {progress['step']}, twice, with identical results")
    return replayed


def _epochs(stored: Checkpoint, steps: int) -> float:
    """Return the budget (passes over the texts) of a classifier's run with `steps` more steps."""
    config, progress = stored.document("config"), stored.document("training/state")["progress"]
    with lm_storage.convert_restore_errors(stored.path or Path()):
        texts = progress["texts"] + steps * config["finetune"]["batch_size"]
        return float(texts / config["results"]["labels_used"])


def _bits(value: Tensor) -> tuple[torch.Size, torch.dtype, bytes]:
    plain = value.contiguous().view(-1).view(torch.uint8)
    return value.shape, value.dtype, plain.numpy().tobytes()
