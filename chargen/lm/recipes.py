"""Choice of sizes and settings from the corpus, the budget and the speed of the machine.

This module has the tables and rules; `docs/recipes.md` has the curves that led to them. With a
budget in steps or epochs, the choice does not depend on the machine, so that the same command gives
the same sizes everywhere; only a budget in minutes uses the measured speed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from chargen.lm.cells import CELLS
from chargen.lm.config import MUON_ITERATIONS, ModelConfig, TrainConfig, required

DEFAULT_MINUTES = 10.0

# (characters that must be read for the size to pay off, hidden size, learning rate)
SIZES = (
    (0, 128, 6e-3),
    (600_000, 256, 5e-3),
    (2_500_000, 512, 4e-3),
    (15_000_000, 768, 3e-3),
    (60_000_000, 1024, 2e-3),
)

# (passes over the text from which a row applies, dropout, embedding dropout, weight dropout)
REGULARISATION = (
    (0.0, 0.0, 0.0, 0.0),
    (1.5, 0.1, 0.0, 0.0),
    (5.0, 0.2, 0.0, 0.0),
    (8.0, 0.3, 0.0, 0.0),
    (12.0, 0.4, 0.0, 0.0),
    (18.0, 0.5, 0.1, 0.2),
)

REPEATED_WEIGHT_DECAY, REPEATED_PASSES = 0.1, 1.5
"""Weight decay if the text is read `REPEATED_PASSES` times or more; otherwise it is 0.01."""

MANY_PASSES = 10.0
"""Passes over the text beyond which, with a budget in minutes, a larger size learns more.

The larger size must have at most `MAX_WEIGHTS_PER_CHARACTER` weights per character of the text, and
the smaller one fewer than `FEW_WEIGHTS_PER_CHARACTER`. Beyond that, several networks learn more
than a larger one.
"""

FEW_WEIGHTS_PER_CHARACTER, MAX_WEIGHTS_PER_CHARACTER = 1.2, 4.0

LARGEST_ENSEMBLE = 8
"""Largest number of networks that the recipe chooses.

If there is time for so many of the next larger size, with at most `MAX_WEIGHTS_IN_ENSEMBLE` weights
per character of the text, they learn more.
"""

MAX_WEIGHTS_IN_ENSEMBLE = 6.0

SATURATING_PASSES = 3.0
"""Passes over the text after which more width helps more than more passes (docs/recipes.md)."""

# (characters that must be read, streams): few streams, so that a short run has enough steps
STREAMS_BY_CHARACTERS = ((0, 16), (20_000_000, 32), (100_000_000, 64))

# (hidden size, fewest streams): with fewer, Muon's fixed work per step takes too much of the time
MIN_STREAMS_BY_SIZE = ((0, 16), (513, 32), (1025, 64))

WINDOW = 128
"""Time steps of truncated BPTT if the text is long enough."""

EVALUATIONS = 12
"""Evaluations in a run; `Plan.evaluation_characters` limits them to some 5 % of the time."""


@dataclass(frozen=True)
class Plan:
    """Complete sizes and settings of a run."""

    model: ModelConfig
    train: TrainConfig
    # in all passes over the text; an estimate if the budget is in minutes
    characters_read: float
    reasons: tuple[str, ...]  # what was chosen and why, one sentence per choice

    @property
    def evaluation_characters(self) -> int:
        """Number of validation characters for each evaluation during the run.

        Reading costs a third of training per character: 12 x characters / 80 / 3 is 5 %.
        """
        return max(25_000, int(self.characters_read / 80))


def flops_per_character(model: ModelConfig) -> float:
    """Return the FLOPs for learning from one character: 6 per weight of a matrix product."""
    return 6.0 * _num_weights(model) * model.num_networks


def _num_weights(model: ModelConfig) -> int:
    """Return the number of weights in the matrix products of one network."""
    gates = len(CELLS[model.cell].gates)
    hidden, embedding = model.hidden_size or 0, model.embedding_size or 0
    layers = model.num_layers or 1
    recurrent = gates * hidden * (embedding + hidden + (layers - 1) * 2 * hidden)
    tied = hidden * embedding + embedding * (model.vocabulary_size or 0)
    output = tied if model.tied else hidden * (model.vocabulary_size or 0)
    return recurrent + output


def muon_flops(model: ModelConfig) -> float:
    """Return the FLOPs of one step of `chargen.training.optimizers.Muon`."""
    hidden, embedding = model.hidden_size or 0, model.embedding_size or 0
    layers = model.num_layers or 1
    matrices = [(hidden, embedding), *[(hidden, hidden)] * (2 * layers - 1)]
    products = 0
    for shape in matrices:
        small, large = sorted(shape)
        products += 2 * small * small * large + small**3
    return 2.0 * len(CELLS[model.cell].gates) * MUON_ITERATIONS * products * model.num_networks


def plan(
    model: ModelConfig, train: TrainConfig, characters: int, flops_per_second: float | None = None
) -> Plan:
    """Choose every size, rate and interval that is None, for a text of `characters` characters.

    The model's vocabulary size must be set. A budget in minutes needs `flops_per_second`, the
    measured speed of a training step.
    """
    reasons: list[str] = []
    if train.minutes is None and train.epochs is None and train.steps is None:
        train = replace(train, minutes=DEFAULT_MINUTES)
        reasons.append(f"no budget was given: {DEFAULT_MINUTES:g} minutes")
    sized, reading = _choose_sizes(model, train, characters, flops_per_second)
    batch_reasons: list[str] = []
    train = _choose_batch(train, characters, reading, sized.hidden_size or 0, batch_reasons)
    batch = required(train.batch_size) * required(train.window)
    steps = train.steps or max(1, int(reading / batch))
    if train.steps is not None:  # until now, the reading was an estimate
        reading = float(steps * batch)
    reasons += _size_reasons(model, sized, reading, characters)
    passes = reading / characters
    model = _choose_regularisation(sized, passes, reasons)
    rate = next(r for _, h, r in reversed(SIZES) if h <= max(128, model.hidden_size or 0))
    interval = max(1, steps // EVALUATIONS)
    train = _with_defaults(
        train,
        learning_rate=rate,
        weight_decay=REPEATED_WEIGHT_DECAY if passes >= REPEATED_PASSES else 0.01,
        ema=0.0,
        eval_every=interval,
        warmup_steps=min(50, max(1, steps // 10)),
    )
    return Plan(model, train, reading, (*reasons, *batch_reasons))


def suggest_first_run(characters: int) -> tuple[float, int]:
    """Return the minutes of a first run on a corpus, and the hidden size of that run.

    The assumed speed is that of a training step on two cores of an ordinary processor.
    """
    training = max(1, int(0.9 * characters))
    chosen = 1.0, 128
    for minutes in (1, 3, 10, 30, 60, 120, 480):
        model = ModelConfig(vocabulary_size=100)
        planned = plan(model, TrainConfig(minutes=minutes), training, 2.5e11)
        chosen = float(minutes), planned.model.hidden_size or 0
        if planned.characters_read >= SATURATING_PASSES * training:
            break
    return chosen


def _with_defaults(config: Any, **defaults: Any) -> Any:
    return replace(config, **{k: v for k, v in defaults.items() if getattr(config, k) is None})


def _choose_sizes(
    model: ModelConfig,
    train: TrainConfig,
    characters: int,
    flops_per_second: float | None,
) -> tuple[ModelConfig, float]:
    """Choose the size and the number of networks.

    Also returns the number of characters that each network reads; with a budget in steps, it is an
    estimate.
    """
    candidates = [
        _with_defaults(
            model,
            hidden_size=hidden,
            num_layers=1,
            embedding_size=min(128, max(32, (model.hidden_size or hidden) // 4)),
        )
        for _, hidden, _ in SIZES
    ]
    readings = [_characters_read(train, characters, c, flops_per_second) for c in candidates]
    weights = [_num_weights(candidate) / characters for candidate in candidates]

    def count_networks(index: int, passes: float) -> int:
        """Return how many networks of a size can each read the text `passes` times."""
        if train.minutes is None or weights[index] < FEW_WEIGHTS_PER_CHARACTER:
            return 1
        return min(LARGEST_ENSEMBLE, max(1, round(readings[index] / characters / passes)))

    index = 0
    if model.hidden_size is None:
        for i, (needed, _, _) in enumerate(SIZES):
            too_often = train.minutes is not None and readings[index] > MANY_PASSES * characters
            few = weights[index] < FEW_WEIGHTS_PER_CHARACTER
            fits = weights[i] <= MAX_WEIGHTS_PER_CHARACTER
            pays = readings[i] >= needed or too_often
            if pays and (train.minutes is None or (few and fits)):
                index = i
    count = model.ensemble
    if count is None:
        passes = passes_before_ensemble(characters)
        count = count_networks(index, passes)
        wider = index + 1
        if model.hidden_size is None and count == LARGEST_ENSEMBLE and wider < len(SIZES):
            enough = count * max(5.0, 0.4 * passes) * characters
            if readings[wider] >= enough and weights[wider] <= MAX_WEIGHTS_IN_ENSEMBLE:
                index = wider
    chosen, reading = candidates[index], readings[index]
    return replace(chosen, ensemble=count), reading if model.ensemble else reading / count


def _size_reasons(
    model: ModelConfig, sized: ModelConfig, reading: float, characters: int
) -> list[str]:
    """Return the reasons for the sizes that were open in `model`, where each network reads that."""
    reasons = []
    count = 1 if model.ensemble else sized.num_networks
    if model.hidden_size is None:
        reasons.append(
            f"hidden size {sized.hidden_size}: the budget is enough to read about "
            f"{_human(reading * count)} characters"
        )
    if count > 1:
        reasons.append(
            f"an ensemble of {count}: one network would read the text "
            f"{reading * count / characters:.0f} times"
        )
    return reasons


def passes_before_ensemble(characters: int) -> float:
    """Return after how many passes another network gains more: 6 at 1 MB, 25 at 100 kB."""
    return float(min(60.0, max(3.0, 6.0 * (1e6 / characters) ** 0.62)))


def _characters_read(
    train: TrainConfig, characters: int, model: ModelConfig, flops_per_second: float | None
) -> float:
    if train.epochs is not None:
        return train.epochs * characters
    if train.steps is not None:
        return float(train.steps * _characters_per_step(train, model, characters))
    flops = flops_per_character(model)
    if train.optimizer == "muon":
        # Muon is all matrix products: an operation takes two thirds as long as in training.
        flops += muon_flops(model) / 1.5 / _characters_per_step(train, model, characters)
    # Small layers do not reach the speed of the reference step: add a fixed cost per character.
    seconds = flops / (flops_per_second or 1e11) + 4e-6 * model.num_networks
    return required(train.minutes) * 60 / seconds


def _characters_per_step(train: TrainConfig, model: ModelConfig, characters: int) -> int:
    """Estimate the characters per step before the number of characters read is known."""
    streams = train.batch_size or _table_entry(MIN_STREAMS_BY_SIZE, model.hidden_size or 0)
    return min(characters, streams * (train.window or WINDOW))


def _table_entry(table: tuple[tuple[int, int], ...], value: float) -> int:
    """Return the entry of `table` beside the largest threshold that `value` reaches."""
    return next(entry for threshold, entry in reversed(table) if value >= threshold)


def _choose_regularisation(model: ModelConfig, passes: float, reasons: list[str]) -> ModelConfig:
    _, dropout, on_embedding, on_weights = next(
        row for row in reversed(REGULARISATION) if passes >= row[0]
    )
    if model.dropout is None:
        often = f"{passes:.2g} times" if passes < 10 else f"{passes:.0f} times"
        reasons.append(f"dropout {dropout:g}: the text is read {often}")
    filled: ModelConfig = _with_defaults(
        model, dropout=dropout, embedding_dropout=on_embedding, weight_dropout=on_weights
    )
    return filled


def _choose_batch(
    train: TrainConfig, characters: int, characters_read: float, hidden: int, reasons: list[str]
) -> TrainConfig:
    # A stream should contain several windows, and a run should have some hundred steps.
    window = train.window or min(WINDOW, max(16, characters // 64))
    wanted = max(
        _table_entry(STREAMS_BY_CHARACTERS, characters_read),
        _table_entry(MIN_STREAMS_BY_SIZE, hidden),
    )
    most = max(1, characters // (2 * window))
    batch = train.batch_size or max(
        1, min(wanted, most, int(max(4, characters_read / 300 / window)))
    )
    if batch > max(1, characters // 4):
        reasons.append(f"batch size {max(1, characters // 4)}: the text is too short for {batch}")
        batch = max(1, characters // 4)
    if batch * 2 > characters - 1 or window > (characters - 1) // batch:
        window = max(2, (characters - 1) // batch)
        if window < (train.window or 0):
            reasons.append(f"window {window}: the text is too short for {train.window}")
    return replace(train, window=window, batch_size=batch)


def _human(count: float) -> str:
    for unit, name in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count:.0f}"
