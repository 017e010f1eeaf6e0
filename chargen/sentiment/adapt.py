"""The language model reads the texts of the domain before it is asked for verdicts on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from chargen.lm import recipes
from chargen.lm.config import TrainConfig
from chargen.lm.model import CharLM
from chargen.runtime.signals import stopping_softly
from chargen.sentiment.batching import readable
from chargen.text.symbols import SEPARATOR
from chargen.text.vocabulary import Vocabulary
from chargen.training.language_modelling import LanguageModelling
from chargen.training.loop import Loop
from chargen.training.reporting import Reporter

GENTLE = 0.5
"""Highest learning rate as a share of the recipe's: the encoder knows much already."""

MOST_VALIDATION = 200_000
"""Symbols kept to see whether reading helps."""


def adapt(
    model: CharLM,
    vocabulary: Vocabulary,
    texts: Sequence[str],
    minutes: float,
    seed: int,
    precision: str,
    flops_per_second: float,
    reporter: Reporter,
) -> None:
    """Train a language model on texts, in place (Howard & Ruder 2018, section 3.2).

    Parameters
    ----------
    model : CharLM
        On its device.
    vocabulary : Vocabulary
    texts : sequence of str
        Kept apart where the vocabulary has a symbol for it.
    minutes : float
    seed : int
        Of the order of the texts and of dropout.
    precision, flops_per_second
        As `chargen.runtime.precision.choose_precision` found them.
    reporter : Reporter

    Raises
    ------
    KeyboardInterrupt
        Where the user stopped it: nothing has been saved by then.
    """
    between = SEPARATOR if vocabulary.separator_id is not None else "\n"
    order = np.random.default_rng(seed).permutation(len(texts))
    ids = vocabulary.encode(between.join(readable(texts[i]) for i in order))
    if model.config.direction == "backward":
        ids = np.ascontiguousarray(ids[::-1])
    kept = min(MOST_VALIDATION, len(ids) // 20)
    # The gentle rate was chosen for AdamW.
    config = TrainConfig(minutes=minutes, seed=seed, optimizer="adamw")
    plan = recipes.plan(model.config, config, len(ids) - kept, flops_per_second)
    rate = (plan.train.learning_rate or 0.0) * GENTLE
    task = LanguageModelling(
        model,
        replace(plan, train=replace(plan.train, learning_rate=rate)),
        ids[: len(ids) - kept],
        ids[len(ids) - kept :],
        vocabulary.start_id,
        precision,
    )
    loop = Loop(task, lambda _: None, reporter)
    torch.manual_seed(seed)
    try:
        with stopping_softly(loop):
            loop.run()
    finally:
        reporter.close()
    if not loop.finished:
        reporter.note("stopped while adapting: nothing has been saved")
        raise KeyboardInterrupt
    if loop.best:
        model.load_state_dict(loop.best)
