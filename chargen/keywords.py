"""The keyword options of functions, for editors and type checkers.

Made from the fields of the configurations by `python tools/keywords.py`; to change it, change them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict


class TrainOptions(TypedDict, total=False):
    """Of `TrainConfig`, `ModelConfig`, `CorpusConfig`."""

    minutes: float | None
    epochs: float | None
    steps: int | None
    seed: int
    batch_size: int | None
    window: int | None
    window_jitter: bool
    shuffle_documents: bool
    optimizer: Literal["muon", "adamw"]
    learning_rate: float | None
    schedule: Literal["cosine", "constant-cooldown"]
    cooldown: float
    warmup_steps: int | None
    weight_decay: float | None
    clip: float
    ema: float | None
    patience: int | None
    eval_every: int | None
    checkpoint_every: int | None
    samples: bool
    device: str
    precision: Literal["auto", "float32", "bfloat16"]
    threads: int | None
    deterministic: bool
    cell: Literal["lstm", "gru", "rnn"]
    hidden_size: int | None
    num_layers: int | None
    embedding_size: int | None
    ensemble: int | None
    dropout: float | None
    embedding_dropout: float | None
    weight_dropout: float | None
    variational: bool
    tied: bool
    orthogonal: bool
    direction: Literal["forward", "backward"]
    text_column: Sequence[str]
    delimiter: str | None
    header: bool
    quoting: Literal["csv", "none"] | None
    encoding: str
    errors: Literal["strict", "replace"]
    level: Literal["char", "byte"]
    min_count: int
    valid: str | None
    valid_fraction: float
    raw_bytes: bool
    glob: str | None
    label_column: str | None
    normalize: Literal["NFC"] | None
    documents: str | None
    clean: Literal["html"] | None
    max_bytes: int | None


class SamplingOptions(TypedDict, total=False):
    """Of `SamplingConfig`."""

    max_chars: int
    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float
    stop: Sequence[str]
    seed: int | None
    unknown: Literal["replace", "skip", "error"]
    label: str | None
    ignore_end: bool


class FinetuneOptions(TypedDict, total=False):
    """Of `FinetuneConfig`, `NetworkConfig`, `ExamplesConfig`."""

    method: Literal["auto", "finetune", "probe"]
    penalty: Literal["l2", "l1"]
    minutes: float | None
    epochs: float | None
    labels: int | None
    valid: str | None
    valid_fraction: float | None
    seed: int
    from_scratch: bool
    unlabelled: str | None
    adapt: float | None
    ngrams: bool
    batch_size: int
    window: int
    learning_rate: float
    encoder_rate: float
    lm_weight: float
    weight_decay: float
    clip: float
    ema: float
    class_weights: bool
    patience: int | None
    evaluations: int
    eval_every: int | None
    checkpoint_every: int | None
    device: str
    precision: Literal["auto", "float32", "bfloat16"]
    threads: int | None
    deterministic: bool
    detectors: int
    head_size: int
    head_dropout: float
    text_column: Sequence[str]
    delimiter: str | None
    header: bool
    quoting: Literal["csv", "none"] | None
    encoding: str
    errors: Literal["strict", "replace"]
    label_column: str | None
    label_map: str | None
    clean: Literal["html"] | None
