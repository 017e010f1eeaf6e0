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
    from chargen.errors import ChargenError as ChargenError
    from chargen.errors import CheckpointError as CheckpointError
    from chargen.errors import ConfigError as ConfigError
    from chargen.errors import CorpusError as CorpusError
    from chargen.errors import MissingExtraError as MissingExtraError
    from chargen.errors import OutOfMemoryError as OutOfMemoryError
    from chargen.errors import TrainingError as TrainingError
    from chargen.errors import VocabularyError as VocabularyError
    from chargen.language_model import LanguageModel as LanguageModel
    from chargen.language_model import load as load
    from chargen.lm.config import ModelConfig as ModelConfig
    from chargen.lm.config import TrainConfig as TrainConfig
    from chargen.lm.evaluation import Score as Score
    from chargen.sampling.config import SamplingConfig as SamplingConfig
    from chargen.sampling.generate import Sample as Sample
    from chargen.sentiment.classifier import Classifier as Classifier
    from chargen.sentiment.config import ExamplesConfig as ExamplesConfig
    from chargen.sentiment.config import FinetuneConfig as FinetuneConfig
    from chargen.sentiment.config import NetworkConfig as NetworkConfig
    from chargen.sentiment.examples import Examples as Examples
    from chargen.sentiment.finetune import finetune as finetune
    from chargen.sentiment.finetune import resume_finetune as resume_finetune
    from chargen.sentiment.learning import FinetuneRun as FinetuneRun
    from chargen.text.config import CorpusConfig as CorpusConfig
    from chargen.training.reporting import Reporter as Reporter
    from chargen.training.resume import resume as resume
    from chargen.training.run import train as train
    from chargen.training.session import Run as Run
    from chargen.verification import Verification as Verification
    from chargen.verification import verify as verify

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

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
