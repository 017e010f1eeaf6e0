r"""The network: texts as ids, in batches of similar length, to logits.

    texts -> ids -> CharLM -> outputs (T, B, H) -> last, mean, maximum ------------\
                                   \-> detectors (T, B, D) -> mean, maximum --------> head -> (B, C)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from chargen.lm.model import CharLM
from chargen.lm.pooling import LastState, Pooling, running_mean_and_max
from chargen.lm.recurrent import detach
from chargen.runtime.precision import autocast
from chargen.sentiment.config import NetworkConfig
from chargen.text.vocabulary import Vocabulary, replace_surrogates

WINDOW = 256
"""Time steps read at once without gradients: bounds the memory, changes no result."""

LIMIT = 4.0
"""Standard deviations at which standardised features are clipped."""

MOMENTUM = 0.05
"""Share of a batch in the running statistics; small, so that they cover all text lengths."""

MOST_SCALE, MOST_SHIFT = 3.0, 5.0
"""Largest correction of a batch towards the running statistics (r_max, d_max of Ioffe 2017)."""

ENOUGH = 16
"""Texts in a batch from which a matrix product is efficient."""

LIKE = 0.75
"""Least length of a text, as a share of the longest, to join a batch of `ENOUGH` or more."""

BATCH_SIZE = 128
BATCH_SYMBOLS = 1 << 20
"""Most texts in a batch without gradients, and most symbols with padding (8 bytes each)."""


# ---------------------------------------------------------------- texts as ids, in batches


@dataclass(frozen=True)
class TextEncoding:
    """How one encoder reads a text: its vocabulary and its direction."""

    vocabulary: Vocabulary
    backward: bool

    def encode(self, text: str) -> NDArray[Any]:
        """Return the ids of the start symbol and the text, in the order of reading."""
        ids = self.vocabulary.encode(replace_surrogates(text))
        start = np.array([self.vocabulary.start_id], ids.dtype)
        return np.concatenate([start, ids[::-1] if self.backward else ids])

    def whole(self, ids: NDArray[Any]) -> NDArray[np.int64]:
        """Return the step before each character of the text, and the last step: (N + 1,).

        All bytes of a character belong together. Backward, the step before a character is the one
        that has read everything after it.
        """
        text = ids[1:][::-1] if self.backward else ids[1:]
        count = len(text)
        byte = self.vocabulary.level == "byte"
        starts = self.vocabulary.character_starts(text) if byte else np.arange(count)
        ends: NDArray[np.int64] = np.append(starts, count)
        return count - ends if self.backward else ends


def text_encodings(
    network: ClassifierNetwork, vocabularies: Sequence[Vocabulary]
) -> list[TextEncoding]:
    return [
        TextEncoding(vocabulary, encoder.config.direction == "backward")
        for encoder, vocabulary in zip(network.lm_encoders(), vocabularies, strict=True)
    ]


def unknown_characters(text: str, vocabularies: Iterable[Vocabulary]) -> str:
    """Return the distinct characters of a text that are missing from a vocabulary."""
    unknown = (vocabulary.encode_prompt(text, "replace")[1] for vocabulary in vocabularies)
    return "".join(dict.fromkeys("".join(unknown)))


@dataclass(frozen=True)
class EncoderInput:
    """The input of one encoder for a batch."""

    # (T, B) int64: each text after the start symbol, in the encoder's direction, padded at the end
    ids: Tensor
    lengths: Tensor  # (B,) int64: true steps, the start symbol counted


class EncodedTexts:
    """Texts as ids of each encoder."""

    def __init__(self, texts: Iterable[str], encodings: Sequence[TextEncoding]) -> None:
        self.encodings = list(encodings)
        self.ids = [[encoding.encode(text) for encoding in encodings] for text in texts]
        self.lengths = np.array([max(map(len, ids)) for ids in self.ids], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def inputs(self, indices: Sequence[int], device: torch.device | str) -> list[EncoderInput]:
        """Return a batch of the texts at `indices`, padded at the end: one input per encoder."""
        inputs = []
        for which, encoding in enumerate(self.encodings):
            texts = [torch.from_numpy(self.ids[i][which].astype(np.int64)) for i in indices]
            ids = pad_sequence(texts, padding_value=encoding.vocabulary.start_id)  # (T, B)
            lengths = torch.tensor([len(text) for text in texts])
            inputs.append(EncoderInput(ids.to(device), lengths.to(device)))
        return inputs


def sorted_batches(
    lengths: NDArray[np.int64], batch_size: int, symbols: int
) -> Iterator[list[int]]:
    """Yield batches of indices: each text once, the longest first.

    A batch has at most `batch_size` texts and `symbols` symbols with padding. From `ENOUGH` texts
    on, it takes none that is much shorter than its longest. The longest come first, so that a
    lack of memory shows at the start.
    """
    batch: list[int] = []
    for index in np.argsort(-lengths, kind="stable").tolist():
        if batch:
            longest = lengths[batch[0]]
            full = len(batch) == batch_size or (len(batch) + 1) * longest > symbols
            if full or (len(batch) >= ENOUGH and lengths[index] < LIKE * longest):
                yield batch
                batch = []
        batch.append(index)
    if batch:
        yield batch


@torch.no_grad()
def read_all(
    encoded: EncodedTexts,
    function: Callable[[list[EncoderInput]], Tensor],
    width: int,
    device: torch.device,
    precision: str,
) -> Tensor:
    """Apply a function to all texts in batches: (N, width) float32 on the CPU, in their order."""
    found = torch.empty(len(encoded), width)
    for batch in sorted_batches(encoded.lengths, BATCH_SIZE, BATCH_SYMBOLS):
        with autocast(device, precision):
            some = function(encoded.inputs(batch, device))
        found[batch] = some.float().cpu()
    return found


# ---------------------------------------------------------------- the network


class BatchRenorm(nn.BatchNorm1d):
    """Batch renormalisation (Ioffe 2017): training, too, normalises by the running statistics.

    A batch has texts of similar length, and the features depend on the length. Normalised by the
    statistics of the batch, the features in training would differ from those in prediction.
    Gradients flow through the batch's statistics, as in batch normalisation.
    """

    running_mean: Tensor  # (F,)
    running_var: Tensor  # (F,)
    num_batches_tracked: Tensor  # ()

    def forward(self, input: Tensor) -> Tensor:
        """Normalise features (B, F)."""
        if not self.training:
            return super().forward(input)
        values = input.float()
        variance, mean = torch.var_mean(values, 0, correction=0)  # (F,), (F,)
        self._follow(mean.detach(), variance.detach())
        deviation = (variance + self.eps).sqrt()
        usual = (self.running_var + self.eps).sqrt()
        scale = (deviation.detach() / usual).clamp(1 / MOST_SCALE, MOST_SCALE)
        shift = ((mean.detach() - self.running_mean) / usual).clamp(-MOST_SHIFT, MOST_SHIFT)
        return ((values - mean) / deviation * scale + shift) * self.weight + self.bias

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Update the running statistics: a mean over the first batches, then a moving average.

        The variance includes the differences between the means of the batches.
        """
        self.num_batches_tracked += 1
        share = 1 / self.num_batches_tracked.float()
        if self.momentum is not None:
            share = share.clamp(min=self.momentum)
        moved = mean - self.running_mean
        spread = variance + (1 - share) * moved**2 - self.running_var
        # A step that overflowed is skipped, and must not change the statistics.
        usable = moved.isfinite() & spread.isfinite()
        self.running_var += torch.where(usable, share * spread, 0.0)
        self.running_mean += torch.where(usable, share * moved, 0.0)


class ClippedBatchRenorm(BatchRenorm):
    """Batch renormalisation whose results are clipped at `LIMIT` standard deviations.

    A text much shorter than those of training has features hundreds of deviations from the mean,
    which would outweigh all others.
    """

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).clamp(-LIMIT, LIMIT)


class Head(nn.Sequential):
    """Layers from pooled features (B, F) to logits (B, C), after Howard & Ruder 2018.

    Batch renormalisation comes first, because the scales of the features differ by orders of
    magnitude; layer normalisation would keep that difference.
    """

    def __init__(self, features: int, config: NetworkConfig) -> None:
        # Means over a long text vary little: the usual eps of 1e-5 exceeds some variances.
        layers: list[nn.Module] = [
            ClippedBatchRenorm(features, eps=1e-7, momentum=MOMENTUM),
            nn.Dropout(config.head_dropout),
        ]
        if config.head_size:
            layers += [
                nn.Linear(features, config.head_size, bias=False),
                BatchRenorm(config.head_size, momentum=MOMENTUM),
                nn.ReLU(),
                nn.Dropout(config.head_dropout),
            ]
        layers.append(nn.Linear(config.head_size or features, config.num_classes))
        super().__init__(*layers)
        self.num_features = features


class ClassifierNetwork(nn.Module):
    """A text classifier on the encoder of one or two character language models.

    Parameters
    ----------
    encoders : sequence of CharLM
        The configuration of each has its direction.
    config : NetworkConfig

    Attributes
    ----------
    detectors : nn.ModuleList of nn.Linear, H -> D; empty where D is 0
        Rectified units over each time step: they can detect a word before all words are averaged
        (like the hidden layer of a deep averaging network, Iyyer et al. 2015, but on states that
        have read the context).
    head : Head
    temperature : (), buffer
        Divisor of the logits, for calibrated probabilities (Guo et al. 2017).
    """

    temperature: Tensor

    def __init__(self, encoders: Sequence[CharLM], config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.encoders = nn.ModuleList(encoders)
        sizes = [encoder.hidden_size for encoder in encoders]
        detectors = [nn.Linear(size, config.detectors) for size in sizes if config.detectors]
        self.detectors = nn.ModuleList(detectors)
        self.head = Head(sum(3 * size + 2 * config.detectors for size in sizes), config)
        self.register_buffer("temperature", torch.ones(()))

    def forward(
        self, inputs: Sequence[EncoderInput], gradient_steps: int = 0, lm_loss: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Return the logits (B, C) of a batch, and the language models' loss () or None.

        `inputs` has one input per encoder. Gradients flow through the last `gradient_steps`. The
        steps before them are read in windows of `WINDOW` steps with the state carried, so memory
        does not grow with the texts (truncated BPTT for classification; Howard & Ruder 2018). The
        loss, in nats per symbol, is that of the last `gradient_steps`.
        """
        pooled = [self._read(i, each, gradient_steps, lm_loss) for i, each in enumerate(inputs)]
        losses = [loss for _, loss in pooled if loss is not None]
        logits: Tensor = self.head(torch.cat([features for features, _ in pooled], -1))
        return logits / self.temperature, torch.stack(losses).mean() if losses else None

    def logits(self, inputs: Sequence[EncoderInput]) -> Tensor:
        """Return the logits (B, C)."""
        return self.forward(inputs)[0]

    def features(self, inputs: Sequence[EncoderInput]) -> Tensor:
        """Return the input of the head: (B, F) float32."""
        return torch.cat([self._read(i, each, 0, False)[0] for i, each in enumerate(inputs)], -1)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.temperature.device

    def lm_encoders(self) -> list[CharLM]:
        """Return the encoders, typed as language models."""
        return [encoder for encoder in self.encoders if isinstance(encoder, CharLM)]

    def _read(
        self, index: int, given: EncoderInput, gradient_steps: int, lm_loss: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return the pooled features (B, 3 H + 2 D) of one encoder, and its loss or None."""
        encoder, ids, lengths = self.lm_encoders()[index], given.ids, given.lengths
        pools = [Pooling(lengths) for _ in range(2 if self.detectors else 1)]
        last = LastState(lengths)
        state = encoder.initial_state(ids.shape[1])

        def pool(outputs: Tensor, first: int) -> None:
            pools[0].add(outputs, first)
            last.add(outputs, first)
            if self.detectors:
                pools[1].add(self.detectors[index](outputs).relu(), first)

        tail = max(0, len(ids) - gradient_steps) if torch.is_grad_enabled() else len(ids)
        with torch.no_grad():
            for first in range(0, tail, WINDOW):
                outputs, state = encoder.features(ids[first : min(first + WINDOW, tail)], state)
                pool(outputs, first)
        loss = None
        if tail < len(ids):
            outputs, _ = encoder.features(ids[tail:], detach(state))
            pool(outputs, tail)
            if lm_loss:
                loss = _lm_loss(encoder, outputs, ids, lengths, tail)
        parts = [last.result(), *(part for each in pools for part in each.result())]
        return torch.cat(parts, -1), loss

    @torch.no_grad()
    def trace(self, ids: Sequence[Tensor]) -> Tensor:
        """Return the logits (T, C) of the prefix up to each step, from ids (T,) per encoder.

        All encoders must read forward: backward, a step has read what comes after it.
        """
        parts = []
        for index, text in enumerate(ids):
            outputs = self.outputs(index, text)  # (T, H)
            parts += [outputs.float(), *running_mean_and_max(outputs)]
            if self.detectors:
                parts += running_mean_and_max(self.detectors[index](outputs).relu())
        logits: Tensor = self.head(torch.cat(parts, -1))
        return logits / self.temperature

    @torch.no_grad()
    def outputs(self, index: int, ids: Tensor) -> Tensor:
        """Return the outputs of encoder `index` at each step of one text: (T, H) from ids (T,)."""
        encoder = self.lm_encoders()[index]
        state = encoder.initial_state(1)
        found = []
        for window in torch.split(ids[:, None], WINDOW):
            outputs, state = encoder.features(window, state)
            found.append(outputs[:, 0])
        return torch.cat(found)


def _lm_loss(
    encoder: CharLM, outputs: Tensor, ids: Tensor, lengths: Tensor, first: int
) -> Tensor | None:
    """Return the mean nats of the symbols after step `first`, without padding; None of none."""
    steps = torch.arange(first + 1, len(ids), device=ids.device)[:, None]
    inside = (steps < lengths).flatten()
    if not inside.any():
        return None
    logits = encoder.logits(outputs[:-1].flatten(0, 1)[inside])
    return nn.functional.cross_entropy(logits.float(), ids[first + 1 :].flatten()[inside])


def pooled_features(
    network: ClassifierNetwork, encoded: EncodedTexts, precision: str = "float32"
) -> NDArray[np.float32]:
    """Return the input of the head for each text: (N, F) float32."""
    network.eval()
    width = network.head.num_features
    found = read_all(encoded, network.features, width, network.device, precision)
    return found.numpy()
