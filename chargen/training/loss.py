"""The loss of a language model; further terms belong here."""

from __future__ import annotations

from torch import Tensor, nn

IGNORE_INDEX = -100
"""The target that cross-entropy leaves out."""


def language_model_loss(
    logits: Tensor, targets: Tensor, first_label_id: int | None = None
) -> Tensor:
    """Return the mean cross-entropy of the next symbols, () in nats.

    Parameters
    ----------
    logits : (T, B, V)
    targets : (T, B) int64
    first_label_id : int, optional
        Ids from here on are labels, which are read but not predicted.
    """
    logits, targets = logits.float().flatten(0, 1), targets.flatten()
    if first_label_id is None:
        return nn.functional.cross_entropy(logits, targets)
    # The divisor is the number of all targets, because that of the labels differs between ranks.
    targets = targets.masked_fill(targets >= first_label_id, IGNORE_INDEX)
    total = nn.functional.cross_entropy(logits, targets, ignore_index=IGNORE_INDEX, reduction="sum")
    return total / len(targets)
