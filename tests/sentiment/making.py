"""Small encoders, networks and labelled texts that a test can build in no time."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chargen.lm import storage as lm_storage
from chargen.lm.config import ModelConfig
from chargen.lm.model import CharLM
from chargen.sentiment.config import NetworkConfig
from chargen.sentiment.examples import Examples
from chargen.sentiment.members import NgramModel, Ngrams
from chargen.sentiment.network import ClassifierNetwork
from chargen.sentiment.splitting import Targets
from chargen.storage import checkpoint
from chargen.text.vocabulary import ByteVocabulary, CharVocabulary, Vocabulary
from chargen.training.reporting import Reporter

CHARS = CharVocabulary("\n .abcdefghijklmnopqrstuvwxyzé☃")
BYTES = ByteVocabulary()

PLAIN = {"dropout": 0.0, "embedding_dropout": 0.0, "weight_dropout": 0.0}
DROPOUTS = {"dropout": 0.2, "embedding_dropout": 0.1, "weight_dropout": 0.1}

QUICK: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 8,
    "detectors": 6,
    "head_size": 5,
    "precision": "float32",
    "device": "cpu",
}
"""Options of a run that takes a fraction of a second."""

LEARNING: dict[str, Any] = {
    "epochs": 12,
    "learning_rate": 0.05,
    "detectors": 16,
    "lm_weight": 0.0,
    "encoder_rate": 1.0,
}
"""Of an encoder that was never trained, all must be learnt at once."""


def make_lm(vocabulary: Vocabulary = CHARS, seed: int = 0, **changes: Any) -> CharLM:
    """An untrained language model; like a trained one, in evaluation mode."""
    sizes: dict[str, Any] = {"hidden_size": 8, "num_layers": 1, "embedding_size": 4, **PLAIN}
    torch.manual_seed(seed)
    return CharLM(ModelConfig(vocabulary_size=vocabulary.size, **(sizes | changes))).eval()


def make_network(*encoders: CharLM, seed: int = 1, **sizes: Any) -> ClassifierNetwork:
    """A network with weights far enough from zero that texts differ, in evaluation mode."""
    chosen: dict[str, Any] = {"detectors": 5, "head_size": 6, "head_dropout": 0.0} | sizes
    made = encoders or (make_lm(),)
    torch.manual_seed(seed)
    network = ClassifierNetwork(made, NetworkConfig(**chosen))
    with torch.no_grad():
        for name, value in network.head.named_parameters():
            if value.ndim > 1:
                value.mul_(3)
            elif name.endswith("bias"):
                value.normal_()
        for name, value in network.head.named_buffers():
            if name.endswith("running_mean"):
                value.normal_(std=0.1)
    return network.eval()


def save_lm(directory: Path, vocabulary: Vocabulary = CHARS, seed: int = 0, **changes: Any) -> Path:
    """Write the checkpoint of an untrained language model."""
    model = make_lm(vocabulary, seed, **changes)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    checkpoint.save(directory, lm_storage.pack(model.config, weights, vocabulary))
    return directory


FILLERS = ("bread", "stone", "river", "cloud", "lamp", "a", "the", "on", "in")
TELLING = (("wow", "vow"), ("zap", "oz"), ("qq", "jq"))


def count_ngrams(
    examples: Examples, *names: str, unlabelled: Sequence[str] = (), classes: int | None = None
) -> list[NgramModel]:
    """Models over n-grams that learnt from examples; of words and characters, or those named."""
    numbers = np.array([examples.classes.index(label) for label in examples.labels])
    weights = np.ones(len(numbers), np.float32)
    targets = Targets(numbers, weights, classes or len(examples.classes))
    ngrams = Ngrams(examples.texts, unlabelled)
    chosen = names or ngrams.regressions
    return ngrams.models(
        {
            name: each.fit(targets, each.strengths[0])
            for name, each in ngrams.regressions.items()
            if name in chosen
        }
    )


def separable(count: int, classes: Sequence[str] = ("bad", "good"), seed: int = 0) -> Examples:
    """Texts of which a few letters tell the class, `count` of them, the classes in turn."""
    chance = random.Random(seed)
    texts, labels = [], []
    for number in range(count):
        which = number % len(classes)
        words = chance.choices(FILLERS, k=chance.randint(2, 6))
        words.insert(chance.randrange(len(words) + 1), chance.choice(TELLING[which]))
        texts.append(f"{' '.join(words)} {number}".replace("0", "b").translate(_LETTERS) + ".")
        labels.append(classes[which])
    return Examples(tuple(texts), tuple(labels), tuple(range(2, count + 2)), "separable.csv")


_LETTERS = str.maketrans("123456789", "acdefghik")  # numbers keep the texts distinct


def write_csv(path: Path, examples: Examples) -> Path:
    """Labelled texts as a table."""
    rows = [f"{text},{label}" for text, label in zip(examples.texts, examples.labels, strict=True)]
    path.write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    return path


class Recorder(Reporter):
    """Keeps what it is told; `at` runs after each step."""

    def __init__(self, at: Callable[[int], object] | None = None) -> None:
        self.at = at
        self.notes: list[str] = []
        self.progress: list[float] = []
        self.steps: list[dict[str, Any]] = []
        self.evaluations: list[dict[str, Any]] = []
        self.closed = 0

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, progress: float, metrics: Mapping[str, Any]) -> None:
        self.progress.append(progress)
        self.steps.append(dict(metrics))
        if self.at:
            self.at(metrics["step"])

    def evaluated(self, metrics: Mapping[str, Any], sample: str | None) -> None:
        self.evaluations.append(dict(metrics))

    def close(self) -> None:
        self.closed += 1


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Whether two sets of weights are equal, bit by bit."""
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def weights_in(directory: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint."""
    return checkpoint.load(directory).tensors["model"]
