"""The models that the page offers: the shipped ones and those in a folder."""

from __future__ import annotations

import contextlib
import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chargen.errors import CheckpointError
from chargen.lm.storage import KIND as LANGUAGE_MODEL
from chargen.sentiment.storage import KIND as CLASSIFIER
from chargen.storage import checkpoint, shipped
from chargen.text.vocabulary import replace_surrogates

if TYPE_CHECKING:
    from chargen.language_model import LanguageModel
    from chargen.sentiment.classifier import Classifier

MOST_LOADED = 4
"""Most models kept in memory; the least recently used one is dropped first."""


class Models:
    """Finds models by name and keeps the most recently used ones in memory.

    A name that a browser sends is only compared with the names found here, never used as a path.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._lock = threading.Lock()
        self._loaded = lru_cache(MOST_LOADED)(lambda load, path, stamp: load(path))

    def language_models(self) -> list[str]:
        """Return the names of the language models, those in the folder first."""
        return self._names(LANGUAGE_MODEL)

    def classifiers(self) -> list[str]:
        return self._names(CLASSIFIER)

    def language_model(self, name: str | None) -> LanguageModel:
        """Return a language model by name.

        Raises `CheckpointError` if there is no such model or it cannot be read.
        """
        from chargen.language_model import LanguageModel

        lm: LanguageModel = self._model(name, LANGUAGE_MODEL, LanguageModel.load)
        return lm

    def classifier(self, name: str | None) -> Classifier:
        """Return a classifier by name; see `language_model`."""
        from chargen.sentiment.classifier import Classifier

        classifier: Classifier = self._model(name, CLASSIFIER, Classifier.load)
        return classifier

    def _names(self, kind: str) -> list[str]:
        return [name for name, path in self._paths().items() if checkpoint.kind_of(path) == kind]

    def _paths(self) -> dict[str, Path]:
        own = []
        with contextlib.suppress(OSError):  # the first training creates the folder
            own = sorted(path for path in self.folder.iterdir() if _is_checkpoint(path))
        # The browser needs text, but the name of a folder may be any bytes.
        paths = {
            replace_surrogates(path.name): path for path in own if not path.name.startswith(".")
        }
        for name, path in shipped.models().items():
            paths.setdefault(name, path)
        return paths

    def _model(self, name: str | None, kind: str, load: Any) -> Any:
        path = self._paths().get(name or "")
        if path is None or checkpoint.kind_of(path) != kind:
            what = "there is no model here yet" if not name else f"there is no model {name!r} here"
            raise CheckpointError(f"{what}: train one, or choose another")
        try:
            status = (path / checkpoint.MANIFEST).stat()
            stamp = (status.st_mtime_ns, status.st_size)
            with self._lock:  # simultaneous requests for a model load it once
                return self._loaded(load, path, stamp)
        except OSError as error:
            raise CheckpointError(
                f"the model {name!r} cannot be read just now: it is being replaced or was removed; "
                "try again, or choose another"
            ) from error


def _is_checkpoint(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return checkpoint.exists(path)
    return False
