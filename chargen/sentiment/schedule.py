"""When each layer learns, and how fast: discriminative rates, gradual unfreezing, slanted triangle.

All three are from Howard & Ruder 2018 (https://arxiv.org/abs/1801.06146).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from chargen.lm.optim import BETAS
from chargen.sentiment.config import FinetuneConfig
from chargen.sentiment.network import ClassifierNetwork

RISE = 0.1
"""Share of the run over which the learning rate rises; over the rest it falls to zero."""

LATEST = 0.8
"""Share of the run after which every layer learns, however many there are."""


@dataclass
class LayerGroup:
    """Parameters that begin to learn together.

    Attributes
    ----------
    name : str
    parameters : list of nn.Parameter
    learning_rate : float
        Highest.
    starts : float
        Share of the run after which they learn, 0 to 1.
    """

    name: str
    parameters: list[nn.Parameter]
    learning_rate: float
    starts: float


def layer_groups(network: ClassifierNetwork, config: FinetuneConfig) -> list[LayerGroup]:
    """The head first, then the encoders' layers from the last to the first, embeddings at the end.

    From scratch there is nothing to be careful with: all learn at once at one rate.
    """
    encoders = network.lm_encoders()
    on_top = [*network.head.parameters(), *network.detectors.parameters()]
    below: list[tuple[str, list[nn.Parameter]]] = []
    for depth in range(max(len(encoder.layers) for encoder in encoders)):
        parameters: list[nn.Parameter] = []
        for encoder in encoders:
            if depth < len(encoder.layers):
                parameters += encoder.layers[len(encoder.layers) - 1 - depth].parameters()
            if depth == 0:  # what the language model's loss alone moves
                parameters += [
                    p
                    for part in (encoder.projection, encoder.output)
                    if part is not None
                    for p in part.parameters()
                    if p is not encoder.embedding.weight
                ]
        below.append((f"layer -{depth + 1}", parameters))
    embeddings = [p for encoder in encoders for p in encoder.embedding.parameters()]
    below.append(("embedding", embeddings))
    groups = [LayerGroup("head", on_top, config.learning_rate, 0.0)]
    for depth, (name, parameters) in enumerate(below):
        if config.from_scratch:
            groups.append(LayerGroup(name, parameters, config.learning_rate, 0.0))
        else:
            rate = config.learning_rate * config.encoder_rate / config.layer_decay**depth
            starts = min(LATEST, config.unfreeze * (depth + 1))
            groups.append(LayerGroup(name, parameters, rate, starts))
    return groups


def make_optimizer(groups: list[LayerGroup], weight_decay: float) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) over the groups; only matrices decay.

    Each of torch's groups has the key ``layer``: the index of the group that it belongs to.
    """
    entries: list[dict[str, Any]] = []
    for index, group in enumerate(groups):
        embeddings = group.name == "embedding"
        for matrices in (True, False):
            chosen = [p for p in group.parameters if (p.ndim > 1 and not embeddings) == matrices]
            if chosen:
                decay = weight_decay if matrices else 0.0
                entries.append({"params": chosen, "weight_decay": decay, "layer": index})
    fused = groups[0].parameters[0].device.type in ("cpu", "cuda")
    return torch.optim.AdamW(entries, lr=0.0, betas=BETAS, fused=fused)


def set_rates(
    groups: list[LayerGroup], optimizer: torch.optim.Optimizer, share_done: float, factor: float
) -> None:
    """Freeze what is not to learn yet, and give each group this share of its highest rate."""
    for group in groups:
        for parameter in group.parameters:
            parameter.requires_grad_(share_done >= group.starts)
    for entry in optimizer.param_groups:
        entry["lr"] = groups[entry["layer"]].learning_rate * factor


def slanted_triangle(share_done: float) -> float:
    """Share of the highest learning rate: a short linear rise, then a long linear fall."""
    if share_done < RISE:
        return max(0.01, share_done / RISE)
    return max(0.0, (1 - share_done) / (1 - RISE))
