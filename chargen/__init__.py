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
    from .errors import (
        ChargenError,
        CheckpointError,
        ConfigError,
        CorpusError,
        MissingExtraError,
        TrainingError,
        VocabularyError,
    )
    from .language_model import LanguageModel, Score, load
    from .lm.config import ModelConfig, TrainConfig
    from .reporting import Reporter
    from .run import resume, train
    from .sampling.config import SamplingConfig
    from .sampling.generate import Sample
    from .sentiment.classifier import Classifier
    from .sentiment.config import ExamplesConfig, FinetuneConfig, NetworkConfig
    from .sentiment.finetune import finetune, resume_finetune
    from .sentiment.session import FinetuneRun
    from .session import Run
    from .text.config import CorpusConfig

__version__ = "0.1.0"

_HOMES = {
    "ChargenError": "errors",
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "Classifier": "sentiment.classifier",
    "CorpusConfig": "text.config",
    "CorpusError": "errors",
    "ExamplesConfig": "sentiment.config",
    "FinetuneConfig": "sentiment.config",
    "FinetuneRun": "sentiment.session",
    "LanguageModel": "language_model",
    "MissingExtraError": "errors",
    "ModelConfig": "lm.config",
    "NetworkConfig": "sentiment.config",
    "Reporter": "reporting",
    "Run": "session",
    "Sample": "sampling.generate",
    "SamplingConfig": "sampling.config",
    "Score": "language_model",
    "TrainConfig": "lm.config",
    "TrainingError": "errors",
    "VocabularyError": "errors",
    "finetune": "sentiment.finetune",
    "load": "language_model",
    "resume": "run",
    "resume_finetune": "sentiment.finetune",
    "train": "run",
}

__all__ = [
    "ChargenError",
    "CheckpointError",
    "Classifier",
    "ConfigError",
    "CorpusConfig",
    "CorpusError",
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
