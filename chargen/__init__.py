"""Character-level language models on your own text and your own machine.

    import chargen

    run = chargen.train("mybook.txt", "checkpoints/mybook", minutes=5)
    lm = chargen.load("checkpoints/mybook")
    print(lm.generate("It was", max_chars=400, temperature=0.8, top_k=40, seed=1))

Names are imported when they are first used, so that `import chargen` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chargen.errors import (
        ChargenError,
        CheckpointError,
        ConfigError,
        CorpusError,
        MissingExtraError,
        TrainingError,
        VocabularyError,
    )
    from chargen.language_model import LanguageModel, Score, load
    from chargen.lm.config import ModelConfig, TrainConfig
    from chargen.sampling.config import SamplingConfig
    from chargen.sampling.generate import Sample
    from chargen.sentiment.classifier import Classifier
    from chargen.sentiment.config import ExamplesConfig, FinetuneConfig, NetworkConfig
    from chargen.sentiment.examples import Examples
    from chargen.sentiment.finetune import finetune, resume_finetune
    from chargen.sentiment.learning import FinetuneRun
    from chargen.text.config import CorpusConfig
    from chargen.training.reporting import Reporter
    from chargen.training.run import resume, train
    from chargen.training.session import Run

__version__ = "0.1.0"

_HOMES = {
    "ChargenError": "errors",
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "Classifier": "sentiment.classifier",
    "CorpusConfig": "text.config",
    "CorpusError": "errors",
    "Examples": "sentiment.examples",
    "ExamplesConfig": "sentiment.config",
    "FinetuneConfig": "sentiment.config",
    "FinetuneRun": "sentiment.learning",
    "LanguageModel": "language_model",
    "MissingExtraError": "errors",
    "ModelConfig": "lm.config",
    "NetworkConfig": "sentiment.config",
    "Reporter": "training.reporting",
    "Run": "training.session",
    "Sample": "sampling.generate",
    "SamplingConfig": "sampling.config",
    "Score": "language_model",
    "TrainConfig": "lm.config",
    "TrainingError": "errors",
    "VocabularyError": "errors",
    "finetune": "sentiment.finetune",
    "load": "language_model",
    "resume": "training.run",
    "resume_finetune": "sentiment.finetune",
    "train": "training.run",
}

__all__ = [
    "ChargenError",
    "CheckpointError",
    "Classifier",
    "ConfigError",
    "CorpusConfig",
    "CorpusError",
    "Examples",
    "ExamplesConfig",
    "FinetuneConfig",
    "FinetuneRun",
    "LanguageModel",
    "MissingExtraError",
    "ModelConfig",
    "NetworkConfig",
    "Reporter",
    "Run",
    "Sample",
    "SamplingConfig",
    "Score",
    "TrainConfig",
    "TrainingError",
    "VocabularyError",
    "finetune",
    "load",
    "resume",
    "resume_finetune",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
