"""A trained model and its vocabulary together: text in, text and figures out."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import ChargenError, ConfigError, CorpusError
from chargen.lm import storage
from chargen.lm.evaluation import Score, dynamic_log_probs, log_probs
from chargen.lm.model import CharLM
from chargen.lm.pooling import pooled_outputs
from chargen.options import split_options
from chargen.runtime.device import choose_device
from chargen.runtime.precision import autocast, reading_precision
from chargen.sampling.config import SamplingConfig
from chargen.sampling.decoder import Decoder
from chargen.sampling.generate import Sample, encode_prompt, generate, stream, watch
from chargen.sampling.steering import Steering
from chargen.storage.checkpoint import Checkpoint
from chargen.storage.outputs import save_model
from chargen.text.config import CorpusConfig
from chargen.text.given import given_text, given_texts
from chargen.text.sources import from_texts, read
from chargen.text.symbols import SEPARATOR, plain_text
from chargen.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from chargen.keywords import SamplingOptions


class LanguageModel:
    """A trained character language model.

    Parameters
    ----------
    model : CharLM
    vocabulary : Vocabulary
    checkpoint : Checkpoint, optional
        Where both came from.

    Examples
    --------
    >>> lm = chargen.load("checkpoints/mybook")  # doctest: +SKIP
    >>> lm.generate("It was", max_chars=100, seed=1)  # doctest: +SKIP
    """

    def __init__(
        self, model: CharLM, vocabulary: Vocabulary, checkpoint: Checkpoint | None = None
    ) -> None:
        self.model = model.eval()
        self.vocabulary = vocabulary
        self.checkpoint = checkpoint
        self.precision = "float32"

    @classmethod
    def load(
        cls, directory: str | os.PathLike[str], device: str = "cpu", precision: str = "float32"
    ) -> LanguageModel:
        """Read a checkpoint that was trained on any device.

        Parameters
        ----------
        directory : path
        device : str
        precision : {"float32", "bfloat16", "auto"}
            Of the products in scoring and where several texts are drawn at once; auto takes
            bfloat16 where it is faster. Probabilities then differ in their third digit.

        Raises
        ------
        CheckpointError
            Where it is missing, damaged, or of another kind.
        ConfigError
            Where there is no such device, or no bfloat16.
        """
        model, vocabulary, stored = storage.load(directory)
        place = choose_device(device)
        lm = cls(model.to(place), vocabulary, stored)
        lm.precision = reading_precision(precision, place)
        return lm

    @property
    def backward(self) -> bool:
        """Whether the model reads from the end of a text to its beginning."""
        return self.model.config.direction == "backward"

    @property
    def raw(self) -> bool:
        """Whether its texts are bytes of any kind: ``text.encode("latin-1")``."""
        return self.vocabulary.level == "raw"

    def _given(self, text: Any, name: str) -> str:
        read = given_text(text, name)
        return str(text) if self.raw else read

    @property
    def can_write(self) -> bool:
        """Not from the end of a text in bytes: a character's bytes only make sense forwards."""
        return not (self.backward and self.vocabulary.level == "byte")

    @cached_property
    def decoder(self) -> Decoder:
        """The model made ready for drawing."""
        return Decoder(self.model, self.precision)

    # ---------------------------------------------------------------- writing

    def generate(
        self,
        prompt: str = "",
        *,
        config: SamplingConfig | None = None,
        **options: Unpack[SamplingOptions],
    ) -> str:
        """Text that continues the prompt, without the prompt.

        A backward model writes what comes before the prompt.

        Parameters
        ----------
        prompt : str
        config : SamplingConfig, optional
        **options
            Fields of `SamplingConfig`: max_chars, temperature, top_k, top_p, min_p, seed, label (of
            a model that was trained with labels), ...; they
            go before those of `config`. Without a seed each call draws a new one; `sample` tells
            it.

        Raises
        ------
        ConfigError
            Where an option has a value that cannot work.
        CorpusError
            Where the prompt is no text.
        """
        return self.sample(prompt, 1, config=config, **options)[0].text

    def sample(
        self,
        prompt: str = "",
        num_samples: int = 1,
        *,
        config: SamplingConfig | None = None,
        **options: Unpack[SamplingOptions],
    ) -> list[Sample]:
        """Several texts drawn as one batch; text i is that of seed + i alone.

        Returns
        -------
        list of Sample
            With the log-probability of each character, and the seed that gives the text again.
        """
        ids, config = self._asked(prompt, config, options)
        samples = generate(self.decoder, self.vocabulary, ids, config, num_samples)
        if self.backward:
            return [replace(s, text=s.text[::-1], log_probs=s.log_probs[::-1]) for s in samples]
        return samples

    def stream(
        self,
        prompt: str = "",
        *,
        config: SamplingConfig | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Iterator[str]:
        """The text of `generate` in pieces, as they are drawn; errors come at the call."""
        ids, config = self._asked(prompt, config, options)
        if self.backward:  # all at once, when it is asked for
            return (self.generate(prompt, config=config) for _ in range(1))
        return stream(self.decoder, self.vocabulary, ids, config)

    def watch(
        self,
        prompt: str = "",
        *,
        seconds: float = 0.1,
        config: SamplingConfig | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Iterator[Sample]:
        """The text of `generate` as it grows, whole each time, with its log-probabilities.

        Parameters
        ----------
        prompt : str
        seconds : float
            Between two looks; the last one is at the finished text.
        config, **options
            As for `generate`.
        """
        ids, config = self._asked(prompt, config, options)
        if self.backward:
            return (self.sample(prompt, config=config)[0] for _ in range(1))
        return watch(self.decoder, self.vocabulary, ids, config, seconds)

    def steered(self, steering: Steering, label: str, strength: float = 1.0) -> LanguageModel:
        """The same model, writing texts of a class; it reads and scores as before.

        See `Steering.steered` for the arguments and errors.
        """
        other = copy.copy(self)
        other.decoder = steering.steered(self.decoder, label, strength)
        return other

    def _asked(
        self, prompt: str, config: SamplingConfig | None, options: Mapping[str, Any]
    ) -> tuple[NDArray[Any], SamplingConfig]:
        (config,) = split_options(options, SamplingConfig, given=[config])
        return self.encode_prompt(prompt, config)[0], config

    def encode_prompt(self, prompt: str, config: SamplingConfig) -> tuple[NDArray[Any], str]:
        """Ids of a prompt in the order of reading, and the characters never seen in training."""
        if not self.can_write:
            raise ConfigError("a backward model of bytes scores text but cannot write it")
        ids, unknown = encode_prompt(self.vocabulary, self._given(prompt, "prompt"), config)
        array = np.asarray(ids)
        return (array[::-1] if self.backward else array), unknown

    # ---------------------------------------------------------------- reading

    def score(
        self,
        text: str,
        *,
        dynamic: bool = False,
        streams: int = 1,
        as_is: bool = False,
        label: str | None = None,
    ) -> Score:
        """Log-probability of each character of a text, as ``chargen evaluate`` finds it.

        Parameters
        ----------
        text : str
            Read as a file of it would be: cleaned as in training, and where the model keeps
            documents apart, their ends are scored too.
        dynamic : bool
            Let the parameters adapt to what was read (Krause et al. 2018).
        streams : int
            Read that many parts side by side: faster, and very nearly the same.
        as_is : bool
            Score these characters and no others, as of a text that may go on.
        label : str, optional
            Score it as a text of this label, for a model that was trained with labels.

        Raises
        ------
        CorpusError
            Where it is no text, or an empty one.
        VocabularyError
            Where the model does not know the label.
        ChargenError
            Where the model's predictions are not numbers.
        """
        text = self._given(text, "text")
        if not as_is and self.raw:
            text += SEPARATOR if self.vocabulary.separator_id is not None else ""
        elif not as_is:
            config = self.reading(CorpusConfig(errors="replace"))
            text = "".join(read([from_texts([text])], config))
        if not text:
            raise CorpusError("there is no text to score")
        if label is not None:
            text = self.vocabulary.label_symbol(label) + text
        ids = self.vocabulary.encode(text)
        unknown = self.vocabulary.unknown_id
        order = ids[::-1] if self.backward else ids
        start = self.vocabulary.start_id
        device = self.model.embedding.weight.device
        with autocast(device, self.precision):
            scores = (
                dynamic_log_probs(self.model, order, start)
                if dynamic
                else log_probs(self.model, order, start, streams)
            )
        if np.isnan(scores).any():
            raise ChargenError(
                "the model's predictions are not numbers (NaN): its weights overflow"
            )
        if self.backward:
            scores = scores[::-1]
        if self.vocabulary.labels:
            predicted = ids < self.vocabulary.first_label_id
            ids, scores = ids[predicted], scores[predicted]
        if self.vocabulary.level == "byte":
            scores = np.add.reduceat(scores, self.vocabulary.character_starts(ids))
        count = 0 if unknown is None else int((ids == unknown).sum())
        return Score(plain_text(text), scores, count)

    @property
    def trained_reading(self) -> dict[str, Any]:
        """How the corpus of training was read: fields of `CorpusConfig`; empty if not known."""
        corpus = self.checkpoint and self.checkpoint.document("config").get("corpus")
        found = corpus.get("config") if isinstance(corpus, dict) else None
        return found if isinstance(found, dict) else {}

    def reading(
        self, asked: CorpusConfig, *, tables: bool = False, labels: bool = False
    ) -> CorpusConfig:
        """How to read text for this model: as asked, else as in training where that matters.

        Documents are apart as they were, or files where they were rows and the text is no table;
        text is cleaned as it was, unless `asked` says how. With `labels` the column of training is
        in the tables too.
        """
        trained = self.trained_reading
        documents = trained.get("documents")
        label_column = asked.label_column or (trained.get("label_column") if labels else None)
        if label_column and not self.vocabulary.labels:
            raise ConfigError("--label-column: the model was trained without labels")
        tables = tables or label_column is not None
        return replace(
            asked,
            documents="files" if documents == "rows" and not tables else documents,
            clean=asked.clean or trained.get("clean"),
            label_column=label_column,
            raw_bytes=self.raw,
        )

    def save(self, directory: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write a checkpoint, whole or not at all, without what resuming needs.

        With `force` it replaces one that stands there; what is no checkpoint is never replaced.

        Raises
        ------
        ConfigError, CheckpointError
            Where something stands there, or it cannot be written.
        """
        stored = storage.pack(self.model.config, self.model.state_dict(), self.vocabulary)
        save_model(Path(directory), stored, self.checkpoint, force)

    def encode(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """Texts as features: what the last layer holds of them.

        Parameters
        ----------
        texts : iterable of str

        Returns
        -------
        (len(texts), 3 H) float32
            Last, mean and largest output over the text (concat pooling; Howard & Ruder 2018).
        """
        rows = [self._pooled(text) for text in given_texts(texts)]
        return np.stack(rows) if rows else np.empty((0, 3 * self.model.hidden_size), np.float32)

    def _pooled(self, text: str) -> NDArray[np.float32]:
        ids = self.vocabulary.encode(text)
        return pooled_outputs(
            self.model, ids[::-1] if self.backward else ids, self.vocabulary.start_id
        )


def load(directory: str | Path, device: str = "cpu", precision: str = "float32") -> LanguageModel:
    """Read a language model; see `LanguageModel.load`."""
    return LanguageModel.load(directory, device, precision)
