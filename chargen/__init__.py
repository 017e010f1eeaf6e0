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
        OutOfMemoryError,
        TrainingError,
        VocabularyError,
    )
    from chargen.language_model import LanguageModel, load
    from chargen.lm.config import ModelConfig, TrainConfig
    from chargen.lm.evaluation import Score
    from chargen.sampling.config import SamplingConfig
    from chargen.sampling.generate import Sample
    from chargen.sentiment.classifier import Classifier
    from chargen.sentiment.config import ExamplesConfig, FinetuneConfig, NetworkConfig
    from chargen.sentiment.examples import Examples
    from chargen.sentiment.finetune import finetune, resume_finetune
    from chargen.sentiment.learning import FinetuneRun
    from chargen.text.config import CorpusConfig
    from chargen.training.reporting import Reporter
    from chargen.training.resume import resume
    from chargen.training.run import train
    from chargen.training.session import Run
    from chargen.verification import Verification, verify

__version__ = "0.1.0"

_NAMES = {
    "errors": "ChargenError CheckpointError ConfigError CorpusError MissingExtraError "
    "OutOfMemoryError TrainingError VocabularyError",
    "language_model": "LanguageModel load",
    "lm.config": "ModelConfig TrainConfig",
    "lm.evaluation": "Score",
    "sampling.config": "SamplingConfig",
    "sampling.generate": "Sample",
    "sentiment.classifier": "Classifier",
    "sentiment.config": "ExamplesConfig FinetuneConfig NetworkConfig",
    "sentiment.examples": "Examples",
    "sentiment.finetune": "finetune resume_finetune",
    "sentiment.learning": "FinetuneRun",
    "text.config": "CorpusConfig",
    "training.reporting": "Reporter",
    "training.resume": "resume",
    "training.run": "train",
    "training.session": "Run",
    "verification": "Verification verify",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}

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
    "OutOfMemoryError",
    "Reporter",
    "Run",
    "Sample",
    "SamplingConfig",
    "Score",
    "TrainConfig",
    "TrainingError",
    "Verification",
    "VocabularyError",
    "finetune",
    "load",
    "resume",
    "resume_finetune",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
