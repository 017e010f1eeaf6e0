"""Chooses what the user left open, from the corpus, the budget and the speed of the machine.

The one table and the few rules stand here; `docs/recipes.md` has the curves that led to them.
Where the budget is in steps or epochs the choice does not depend on the machine, so that the same
command gives the same sizes everywhere; only a budget in minutes looks at the measured speed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from chargen.lm.cells import CELLS
from chargen.lm.config import MUON_ITERATIONS, ModelConfig, TrainConfig, required

DEFAULT_MINUTES = 10.0

# (characters that must be read for it to pay, hidden size, learning rate)
SIZES = (
    (0, 128, 6e-3),
    (600_000, 256, 5e-3),
    (2_500_000, 512, 4e-3),
    (15_000_000, 768, 3e-3),
    (60_000_000, 1024, 2e-3),
)

# (passes over the text from which it holds, dropout, dropout on embeddings, on recurrent weights)
REGULARISATION = (
    (0.0, 0.0, 0.0, 0.0),
    (1.5, 0.1, 0.0, 0.0),
    (5.0, 0.2, 0.0, 0.0),
    (8.0, 0.3, 0.0, 0.0),
    (12.0, 0.4, 0.0, 0.0),
    (18.0, 0.5, 0.1, 0.2),
)

DECAY, REPEATED = 0.1, 1.5
"""Weight decay where the text is read so many times or more; else it is 0.01."""

OFTEN = 10.0
"""Passes over the text, more than which a size is not given minutes for: a larger one learns more.

As long as it has few weights for the text: the smaller one less than `FEW_WEIGHTS` a character, and
itself not more than `MOST_WEIGHTS`. Beyond that several networks learn more than a larger one.
"""

FEW_WEIGHTS, MOST_WEIGHTS = 1.2, 4.0

LARGEST_ENSEMBLE = 8
"""Networks of an ensemble that the recipe chooses."""

ENOUGH = 3.0
"""Passes over the text after which more width is worth more than more passes (docs/recipes.md)."""

# (characters that must be read, streams): more steps learn more, until there are enough of them
BATCHES = ((0, 16), (20_000_000, 32), (100_000_000, 64))

# (hidden size, fewest streams): else Muon, whose work does not grow with them, takes too long
FEWEST = ((0, 16), (513, 32), (1025, 64))

WINDOW = 128
"""Time steps of truncated BPTT, where the text is long enough."""

EVALUATIONS = 12
"""Evaluations in a run; with `evaluation_characters` they take some 5 % of the time."""


@dataclass(frozen=True)
class Plan:
    """A run with every choice made."""

    model: ModelConfig
    train: TrainConfig
    # repeats included; an estimate for a budget in minutes
    characters_read: float
    reasons: tuple[str, ...]  # what was chosen and why, a sentence each

    @property
    def evaluation_characters(self) -> int:
        """Validation characters for each evaluation on the way.

        Reading without learning costs a third of learning: 12 x characters / 80 / 3 is 5 % of it.
        """
        return max(25_000, int(self.characters_read / 80))


def flops_per_character(model: ModelConfig) -> float:
    """Floating-point operations to learn from one character: 6 for each weight of a product."""
    return 6.0 * _weights(model) * model.num_networks


def _weights(model: ModelConfig) -> int:
    """Of the matrix products of one network."""
    gates = len(CELLS[model.cell].gates)
    hidden, embedding = model.hidden_size or 0, model.embedding_size or 0
    layers = model.num_layers or 1
    recurrent = gates * hidden * (embedding + hidden + (layers - 1) * 2 * hidden)
    top = hidden * embedding + embedding * (model.vocabulary_size or 0)
    output = top if model.tied else hidden * (model.vocabulary_size or 0)
    return recurrent + output


def flops_of_muon(model: ModelConfig) -> float:
    """Floating-point operations of one step of `chargen.training.optimizers.Muon`."""
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
    """Fill in every size, rate and interval that is None, for a text of so many characters.

    The model's vocabulary size must be known. A budget in minutes needs the measured speed of a
    training step.
    """
    reasons: list[str] = []
    if train.minutes is None and train.epochs is None and train.steps is None:
        train = replace(train, minutes=DEFAULT_MINUTES)
        reasons.append(f"no budget was given: {DEFAULT_MINUTES:g} minutes")
    model, reading = _choose_sizes(model, train, characters, flops_per_second, reasons)
    model, reading = _choose_networks(model, train, characters, reading, reasons)
    passes = reading / characters
    model = _choose_regularisation(model, passes, reasons)
    train = _choose_batch(train, characters, reading, model.hidden_size or 0, reasons)
    rate = next(r for _, h, r in reversed(SIZES) if h <= max(128, model.hidden_size or 0))
    batch = required(train.batch_size) * required(train.window)
    steps = train.steps or max(1, int(reading / batch))
    every = max(1, steps // EVALUATIONS)
    train = _fill(
        train,
        learning_rate=rate,
        weight_decay=DECAY if passes >= REPEATED else 0.01,
        ema=0.0,
        eval_every=every,
        warmup_steps=min(50, max(1, steps // 10)),
    )
    return Plan(model, train, reading, tuple(reasons))


def suggestion(characters: int) -> tuple[float, int]:
    """Minutes with which to begin on a corpus, and the hidden size that a run of them takes.

    The speed is that of a training step on two cores of an ordinary processor.
    """
    training = max(1, int(0.9 * characters))
    chosen = 1.0, 128
    for minutes in (1, 3, 10, 30, 60, 120, 480):
        model = ModelConfig(vocabulary_size=100)
        made = plan(model, TrainConfig(minutes=minutes), training, 2.5e11)
        chosen = float(minutes), made.model.hidden_size or 0
        if made.characters_read >= ENOUGH * training:
            break
    return chosen


def _fill(config: Any, **defaults: Any) -> Any:
    return replace(config, **{k: v for k, v in defaults.items() if getattr(config, k) is None})


def _choose_sizes(
    model: ModelConfig,
    train: TrainConfig,
    characters: int,
    flops_per_second: float | None,
    reasons: list[str],
) -> tuple[ModelConfig, float]:
    candidates = [
        _fill(
            model,
            hidden_size=hidden,
            num_layers=1,
            embedding_size=min(128, max(32, (model.hidden_size or hidden) // 4)),
        )
        for _, hidden, _ in SIZES
    ]
    chosen = candidates[0]
    reading = _characters_read(train, characters, chosen, flops_per_second)
    if model.hidden_size is not None:
        return chosen, reading
    for (needed, _, _), candidate in zip(SIZES, candidates, strict=True):
        would_read = _characters_read(train, characters, candidate, flops_per_second)
        too_often = train.minutes is not None and reading > OFTEN * characters
        few = _weights(chosen) < FEW_WEIGHTS * characters
        fits = _weights(candidate) <= MOST_WEIGHTS * characters
        pays = would_read >= needed or too_often
        if pays and (train.minutes is None or (few and fits)):
            chosen, reading = candidate, would_read
    reasons.append(
        f"hidden size {chosen.hidden_size}: the budget is enough to read about "
        f"{_human(reading)} characters"
    )
    return chosen, reading


def _choose_networks(
    model: ModelConfig,
    train: TrainConfig,
    characters: int,
    reading: float,
    reasons: list[str],
) -> tuple[ModelConfig, float]:
    """Several networks where a budget in minutes lets one read the text more often than pays.

    Returns the characters that each of them reads too.
    """
    if model.ensemble is not None:
        return model, reading
    often = reading / characters
    count = 1
    if train.minutes is not None and _weights(model) >= FEW_WEIGHTS * characters:
        count = min(LARGEST_ENSEMBLE, max(1, round(often / enough_passes(characters))))
    if count > 1:
        reasons.append(f"an ensemble of {count}: one network would read the text {often:.0f} times")
    return replace(model, ensemble=count), reading / count


def enough_passes(characters: int) -> float:
    """Passes over a text after which another network gains more: 5 at 1 MB, 25 at 100 kB."""
    return float(min(60.0, max(3.0, 5.0 * (1e6 / characters) ** 0.68)))


def _characters_read(
    train: TrainConfig, characters: int, model: ModelConfig, flops_per_second: float | None
) -> float:
    if train.epochs is not None:
        return train.epochs * characters
    if train.steps is not None:
        return float(train.steps * _characters_a_step(train, model))
    flops = flops_per_character(model)
    if train.optimizer == "muon":
        # It is all matrix products: they take two thirds of the time that learning takes for them.
        flops += flops_of_muon(model) / 1.5 / _characters_a_step(train, model)
    # Small layers do not reach the speed of the reference step: a fixed cost for each character.
    seconds = flops / (flops_per_second or 1e11) + 4e-6 * model.num_networks
    return required(train.minutes) * 60 / seconds


def _characters_a_step(train: TrainConfig, model: ModelConfig) -> int:
    """As far as they are known before the reading is."""
    return (train.batch_size or _row(FEWEST, model.hidden_size or 0)) * (train.window or WINDOW)


def _row(table: tuple[tuple[int, int], ...], value: float) -> int:
    """What stands beside the last number that `value` reaches."""
    return next(found for needed, found in reversed(table) if value >= needed)


def _choose_regularisation(model: ModelConfig, passes: float, reasons: list[str]) -> ModelConfig:
    _, dropout, on_embedding, on_weights = next(
        row for row in reversed(REGULARISATION) if passes >= row[0]
    )
    if model.dropout is None:
        often = f"{passes:.1f} times" if passes < 10 else f"{passes:.0f} times"
        reasons.append(f"dropout {dropout:g}: the text is read {often}")
    filled: ModelConfig = _fill(
        model, dropout=dropout, embedding_dropout=on_embedding, weight_dropout=on_weights
    )
    return filled


def _choose_batch(
    train: TrainConfig, characters: int, reading: float, hidden: int, reasons: list[str]
) -> TrainConfig:
    # A stream should hold some windows, and a run should have some hundred steps.
    window = train.window or min(WINDOW, max(16, characters // 64))
    wanted = max(_row(BATCHES, reading), _row(FEWEST, hidden))
    most = max(1, characters // (2 * window))
    batch = train.batch_size or max(1, min(wanted, most, int(max(4, reading / 300 / window))))
    if batch > max(1, characters // 4):
        reasons.append(f"batch size {max(1, characters // 4)}: the text is too short for {batch}")
        batch = max(1, characters // 4)
    if batch * 2 > characters - 1 or window > (characters - 1) // batch:
        window = max(2, (characters - 1) // batch)
    return replace(train, window=window, batch_size=batch)


def _human(count: float) -> str:
    for unit, name in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count:.0f}"
