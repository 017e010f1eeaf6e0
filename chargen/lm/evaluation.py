"""Log-probabilities of a text under a model, with carried state or dynamic evaluation.

Every symbol is predicted, the first one from the vocabulary's start symbol, so that the sum is a
code length that can be compared with that of a compressor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from chargen.lm.config import required
from chargen.lm.model import Network, create_network, evaluation_mode
from chargen.lm.recurrent import detach

WINDOW = 8192
"""Symbols per call of the model; limits the memory and does not affect the results."""

WINDOW_LOGITS = 2**22
"""Logits per call of the model: with a large vocabulary, windows are shorter."""

WARM_UP_SYMBOLS = 256
"""Symbols that each parallel stream reads before its part, to warm up its state."""


def bits(nats: float) -> float:
    return nats / math.log(2)


@dataclass(frozen=True)
class Score:
    """Log-probabilities of a text under a model.

    Attributes
    ----------
    text : str
        The text as the model read it; the end of a document is shown as a newline.
    log_probs : (N,) float32
        Natural log-probability of each character given all characters before it (after it, if the
        model reads backward); for a character of several bytes, the sum over its bytes.
    unknown_chars : int
        Number of characters that the model has never seen; each is scored as the unknown symbol.
    """

    text: str
    log_probs: NDArray[np.float32]
    unknown_chars: int = 0

    @property
    def nats_per_char(self) -> float:
        """Mean negative log-probability."""
        return 0.0 - float(self.log_probs.mean(dtype=np.float64))  # no -0.0

    @property
    def bits_per_char(self) -> float:
        """Mean negative base-2 logarithm of the probability."""
        return bits(self.nats_per_char)

    @property
    def perplexity(self) -> float:
        """Perplexity per character: e to the power of `nats_per_char`."""
        with np.errstate(over="ignore"):
            return float(np.exp(self.nats_per_char))


@torch.no_grad()
def log_probs(
    model: Network, ids: NDArray[np.integer], start_id: int, streams: int = 1
) -> NDArray[np.float32]:
    """Return the log-probability, (N,) float32 in nats, of each of `ids` (N,) given all before it.

    `start_id` is read before the first symbol. With one stream, the state is carried through the
    whole text and the result is exact. With several, the text is read in that many parts in
    parallel, each after the `WARM_UP_SYMBOLS` symbols before it. This is many times faster and
    gives the same result to about three decimals of a nat.
    """
    with evaluation_mode(model):
        scores = np.empty(len(ids), dtype=np.float32)
        streams = max(1, min(streams, len(ids) // WARM_UP_SYMBOLS))
        for positions, chosen in _read_in_parts(model, ids, start_id, streams):
            inside = positions < len(ids)
            scores[positions[inside]] = chosen[inside]
        return scores


def mean_nats(
    model: Network,
    ids: NDArray[np.integer],
    start_id: int,
    streams: int = 1,
    first_label_id: int | None = None,
) -> float:
    """Return the mean negative log-probability per symbol, in nats; see `log_probs`.

    Ids from `first_label_id` on are labels, which are read but not scored.
    """
    scores = log_probs(model, ids, start_id, streams)
    if first_label_id is not None:
        scores = scores[ids < first_label_id]
    return 0.0 - float(scores.mean(dtype=np.float64))  # no -0.0


def _read_in_parts(
    model: Network, ids: NDArray[np.integer], start_id: int, streams: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Yield positions (T, B) and their log-probabilities (T, B), of a text read in B parts."""
    device = model.device
    length = math.ceil(len(ids) / streams)
    starts = np.arange(streams)[None, :] * length

    def at(positions: NDArray[np.int64]) -> Tensor:
        """Return the ids at positions (T, B), with the start symbol for those before the text."""
        selected = ids[np.clip(positions, 0, len(ids) - 1)].astype(np.int64)
        selected[positions < 0] = start_id
        return torch.from_numpy(selected).to(device)

    state = model.initial_state(streams)
    if streams > 1:
        warm_up = at(np.arange(-WARM_UP_SYMBOLS, 0)[:, None] + starts - 1)
        _, state = model.features(warm_up, state)  # without logits, which could fill the memory
        for part in state:
            part[:, 0] = 0  # no text precedes the first part
    symbols = min(WINDOW, WINDOW_LOGITS // required(model.config.vocabulary_size))
    window = max(1, symbols // streams)
    for first in range(0, length, window):
        positions = np.arange(first, min(first + window, length))[:, None] + starts
        logits, state = model(at(positions - 1), state)  # (T, B, V)
        losses = nn.functional.cross_entropy(
            logits.float().flatten(0, 1), at(positions).flatten(), reduction="none"
        )
        yield positions, -losses.view(positions.shape).cpu().numpy()


class DynamicModel:
    """Copy of a model whose parameters adapt to the text as it is read.

    Dynamic evaluation (Krause et al. 2018, https://arxiv.org/abs/1709.07432): each window is
    predicted first and learnt from afterwards. Gradients are divided by the root of their running
    mean square, as in the paper's RMS variant, with statistics gathered from the text itself; each
    step also moves the parameters back towards the trained ones by a fraction `decay` of the
    distance. Ids from `first_label_id` on are labels, which are read but not learnt from.
    """

    @torch.inference_mode(False)  # where the caller turned gradients off, this turns them on
    def __init__(
        self,
        model: Network,
        start_id: int,
        learning_rate: float = 3e-4,
        decay: float = 0.002,
        first_label_id: int | None = None,
    ) -> None:
        without = replace(model.config, dropout=0.0, embedding_dropout=0.0, weight_dropout=0.0)
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay the same
            self.model = create_network(without).to(model.device)
        self.model.load_state_dict(model.state_dict())
        self.model.train()  # without dropout, only makes cuDNN keep what the backward pass needs
        self.state = self.model.initial_state(1)  # after the windows learnt from so far
        self.last_id = start_id  # the id before the next window
        self._decay = decay
        self._first_label_id = (
            required(model.config.vocabulary_size) if first_label_id is None else first_label_id
        )
        self._trained_parameters = [p.detach().clone() for p in self.model.parameters()]
        self._optimizer = torch.optim.RMSprop(self.model.parameters(), lr=learning_rate, alpha=0.99)

    @torch.inference_mode(False)
    def learn(self, ids: NDArray[np.integer]) -> Tensor:
        """Predict ids (T,), then adapt to them; return the predicted log-probabilities (T,)."""
        targets = torch.from_numpy(np.asarray(ids, np.int64)).to(self._trained_parameters[0].device)
        inputs = torch.cat([targets.new_tensor([self.last_id]), targets[:-1]])[:, None]  # (T, 1)
        logits, state = self.model(inputs, self.state)
        losses = nn.functional.cross_entropy(logits[:, 0], targets, reduction="none")
        self._optimizer.zero_grad()
        learnt = losses.masked_fill(targets >= self._first_label_id, 0.0)
        torch.autograd.backward(learnt.mean())
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        with torch.no_grad():
            current = [p.detach() for p in self.model.parameters()]
            torch._foreach_lerp_(current, self._trained_parameters, self._decay)
        self.state, self.last_id = detach(state), int(targets[-1])
        return -losses.detach().cpu()


DYNAMIC_WINDOW = 32
"""Symbols between two updates of dynamic evaluation (T)."""


def dynamic_log_probs(
    model: Network,
    ids: NDArray[np.integer],
    start_id: int,
    *,
    learning_rate: float = 3e-4,
    window: int = DYNAMIC_WINDOW,
    first_label_id: int | None = None,
) -> NDArray[np.float32]:
    """Return log-probabilities (N,) of ids while the parameters adapt; see `DynamicModel`."""
    dynamic = DynamicModel(model, start_id, learning_rate, first_label_id=first_label_id)
    scores = np.empty(len(ids), dtype=np.float32)
    for first in range(0, len(ids), window):
        scores[first : first + window] = dynamic.learn(ids[first : first + window]).numpy()
    return scores
