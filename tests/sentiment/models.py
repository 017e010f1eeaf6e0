"""Classifiers that are small and quick, with weights that nobody trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from chargen.lm.config import ModelConfig
from chargen.lm.model import CharLM
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.config import NetworkConfig
from chargen.sentiment.members import NetworkMember
from chargen.sentiment.network import ClassifierNetwork
from chargen.text.vocabulary import CharVocabulary

CHARACTERS = "\n !',.:abcdefghijklmnopqrstuvwxyz"


def tiny_classifier(
    labels: Sequence[str] = ("neg", "pos"), clean: str | None = None, seed: int = 0
) -> Classifier:
    """A classifier of lower-case text whose probabilities are far apart from text to text."""
    torch.manual_seed(seed)
    vocabulary = CharVocabulary(CHARACTERS)
    encoder = CharLM(
        ModelConfig(
            vocabulary_size=vocabulary.size,
            hidden_size=8,
            num_layers=1,
            embedding_size=4,
            dropout=0.0,
            embedding_dropout=0.0,
            weight_dropout=0.0,
        )
    )
    config = NetworkConfig(num_classes=len(labels), detectors=4, head_size=6)
    network = ClassifierNetwork([encoder], config)
    with torch.no_grad():
        for weights in network.head.parameters():
            weights.mul_(4)
    return Classifier([NetworkMember(network, [vocabulary])], labels, clean)


def save_classifier(classifier: Classifier, directory: Path) -> Path:
    """Write a checkpoint and return its directory."""
    classifier.save(directory)
    return directory
