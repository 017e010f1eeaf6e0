"""The loss of a language model: its terms are added here."""

from __future__ import annotations

from torch import Tensor, nn

IGNORED = -100
"""What cross-entropy takes for a target that does not count."""


def language_model_loss(
    logits: Tensor, targets: Tensor, first_label_id: int | None = None
) -> Tensor:
    """Mean cross-entropy of the next symbols, () in nats.

    Parameters
    ----------
    logits : (T, B, V)
    targets : (T, B) int64
    first_label_id : int, optional
        Ids from here on are labels, which are read and not learnt.
    """
    logits, targets = logits.float().flatten(0, 1), targets.flatten()
    if first_label_id is None:
        return nn.functional.cross_entropy(logits, targets)
    # Divided by all targets: how many of them are labels differs from rank to rank.
    targets = targets.masked_fill(targets >= first_label_id, IGNORED)
    total = nn.functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
    return total / len(targets)
