"""A trained model together with its vocabulary; it takes text and returns text and figures."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import ChargenError, ConfigError, CorpusError
from chargen.lm import storage
from chargen.lm.config import CountsConfig
from chargen.lm.counts import HELD_OUT_SYMBOLS, Counts, Gain, best_weight
from chargen.lm.evaluation import Score, dynamic_log_probs, log_probs
from chargen.lm.model import Network
from chargen.lm.pooling import pooled_outputs
from chargen.options import check_argument, split_options
from chargen.runtime.device import choose_device
from chargen.runtime.precision import autocast, inference_precision
from chargen.sampling.config import SamplingConfig
from chargen.sampling.decoder import Decoder
from chargen.sampling.generate import Sample, encode_prompt, generate, stream, watch
from chargen.sampling.steering import Steering
from chargen.storage.checkpoint import Checkpoint
from chargen.storage.outputs import save_model
from chargen.text.config import CorpusConfig, matching_label
from chargen.text.decoding import normalized
from chargen.text.given import given_list, given_text
from chargen.text.sources import are_tables, from_texts, have_column, read
from chargen.text.symbols import SEPARATOR, plain_text
from chargen.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from chargen.keywords import SamplingOptions


class LanguageModel:
    """A trained character language model.

    Parameters
    ----------
    model : CharLM or Ensemble
        It is put into evaluation mode. Text is written with a copy of the weights, made when the
        first text is written; after further training, make a new LanguageModel.
    vocabulary : Vocabulary
    checkpoint : Checkpoint, optional
        The checkpoint from which model and vocabulary were loaded.
    counts : Counts, optional
        N-gram model mixed in when text is written, scored or compressed; see `with_counts`.

    Examples
    --------
    >>> lm = chargen.load("checkpoints/mybook")  # doctest: +SKIP
    >>> lm.generate("It was", max_chars=100, seed=1)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Network,
        vocabulary: Vocabulary,
        checkpoint: Checkpoint | None = None,
        counts: Counts | None = None,
    ) -> None:
        self.model = model.eval()
        self.vocabulary = vocabulary
        self.checkpoint = checkpoint
        self.counts = counts
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
            ``auto``, the default of the command line, is a GPU if there is one.
        precision : {"float32", "bfloat16", "auto"}
            Precision of the matrix products in scoring and encoding, and in drawing several texts
            at once; auto uses bfloat16 if it is faster. In bfloat16, probabilities differ in their
            third digit.

        Raises
        ------
        CheckpointError
            If the checkpoint is missing, damaged, or of another kind.
        ConfigError
            If there is no such device or precision, or the device has no bfloat16.
        """
        model, vocabulary, stored = storage.load(directory)
        torch_device = choose_device(device)
        lm = cls(
            model.to(torch_device), vocabulary, stored, storage.unpack_counts(stored, vocabulary)
        )
        lm.precision = inference_precision(precision, torch_device)
        return lm

    @property
    def backward(self) -> bool:
        """Whether the model reads from the end of a text to its beginning."""
        return self.model.config.direction == "backward"

    @property
    def raw(self) -> bool:
        """Whether the model's texts stand for arbitrary bytes, ``text.encode("latin-1")``."""
        return self.vocabulary.level == "raw"

    def _checked_text(self, text: Any, name: str) -> str:
        checked = given_text(text, name)
        return str(text) if self.raw else checked

    @property
    def can_write(self) -> bool:
        """Whether the model can write text; a backward model of bytes can only score it."""
        return not (self.backward and self.vocabulary.level == "byte")

    @cached_property
    def decoder(self) -> Decoder:
        """The model, prepared for single steps."""
        return Decoder(self.model, self.precision, self.counts)

    # ---------------------------------------------------------------- writing

    def generate(
        self,
        prompt: str = "",
        *,
        config: SamplingConfig | None = None,
        **options: Unpack[SamplingOptions],
    ) -> str:
        """Return text that continues the prompt, without the prompt.

        A backward model writes what comes before the prompt.

        Parameters
        ----------
        prompt : str
        config : SamplingConfig, optional
        **options
            Fields of `SamplingConfig`: max_chars, temperature, top_k, top_p, min_p, seed, label (of
            a model that was trained with labels), ...; they take precedence over those of `config`.
            Without a seed each call draws a new one, which `sample` and `watch` return.

        Raises
        ------
        ConfigError
            If an option has an invalid value.
        CorpusError
            If `prompt` is not a `str`.
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
        """Draw several texts as one batch; text ``i`` has seed ``seed + i``.

        Returns
        -------
        list of Sample
            Each with the log-probabilities of its characters and the seed that reproduces it.
        """
        ids, config = self._prompt_and_config(prompt, config, options)
        if self.backward:
            config = replace(config, stop=tuple(stop[::-1] for stop in config.stop))
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
        """Yield the text of `generate` in pieces, as they are drawn.

        Invalid options and prompts raise an error at the call, not at the first piece.
        """
        ids, config = self._prompt_and_config(prompt, config, options)
        if self.backward:  # a single piece, drawn when it is requested
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
        """Yield the text of `generate` so far, every `seconds`, with its log-probabilities.

        Parameters
        ----------
        prompt : str
        seconds : float
            Time between two results; the last result is the finished text, and the only one of a
            backward model.
        config, **options
            As for `generate`.
        """
        check_argument("seconds", seconds, float, low=0)
        ids, config = self._prompt_and_config(prompt, config, options)
        if self.backward:
            return (self.sample(prompt, config=config)[0] for _ in range(1))
        return watch(self.decoder, self.vocabulary, ids, config, seconds)

    def steered(self, steering: Steering, label: str, strength: float = 1.0) -> LanguageModel:
        """Return the same model with steering, which writes texts of a class and scores as before.

        In `chargen.sampling.steering`, ``stored_steering(lm.checkpoint)`` returns the steering of a
        checkpoint and ``fit_steering`` that of labelled texts; see `Steering.steered` there for the
        arguments and errors. ``chargen sample --steer`` has a strength of 2. Neither `save` nor an
        export keeps the steering.
        """
        other = copy.copy(self)
        other.decoder = steering.steered(self.decoder, label, strength)
        return other

    def _prompt_and_config(
        self, prompt: str, config: SamplingConfig | None, options: Mapping[str, Any]
    ) -> tuple[NDArray[Any], SamplingConfig]:
        (config,) = split_options(options, SamplingConfig, given_configs=[config])
        stop = tuple(self.normalized(text, "stop") for text in config.stop)
        return self.encode_prompt(prompt, config)[0], replace(config, stop=stop)

    def encode_prompt(self, prompt: str, config: SamplingConfig) -> tuple[NDArray[Any], str]:
        """Return the ids of a prompt in the model's reading order, and its unknown characters."""
        if not self.can_write:
            raise ConfigError("a backward model of bytes scores text but cannot write it")
        text = self.normalized(prompt, "prompt")
        ids, unknown = encode_prompt(self.vocabulary, text, config)
        array = np.asarray(ids)
        return (array[::-1] if self.backward else array), unknown

    # ---------------------------------------------------------------- reading

    def normalized(self, text: str, name: str = "text") -> str:
        """Return a text with newlines and Unicode normalization as in the training text."""
        text = self._checked_text(text, name)
        form = self.reading(CorpusConfig()).normalize
        return "".join(normalized([text], form)) if form else text

    def score(
        self,
        text: str,
        *,
        dynamic: bool = False,
        streams: int = 1,
        as_is: bool = False,
        label: str | None = None,
    ) -> Score:
        """Return the log-probability of each character of a text, as ``chargen evaluate`` does.

        Parameters
        ----------
        text : str
            The text is read like a file: cleaned as in training and, if the model separates
            documents, scored with the ends of documents.
        dynamic : bool
            Let the parameters adapt to the text (Krause et al. 2018), which is read in one part.
        streams : int
            Number of parts that are read in parallel, which is faster with nearly the same result.
        as_is : bool
            Score exactly these characters, without cleaning and ends of documents.
        label : str, optional
            Score the text as one of this label, for a model that was trained with labels.

        Raises
        ------
        ConfigError
            If `streams` is not a whole number, 1 or more.
        CorpusError
            If `text` is not a `str`, or is empty.
        VocabularyError
            If the model has no such `label`.
        ChargenError
            If the model's predictions are not numbers.
        """
        check_argument("--streams", streams, int, low=1)
        text = self._checked_text(text, "text") if as_is else self._read_like_file(text)
        shown = plain_text(text, len(self.vocabulary.labels))
        if not shown:
            raise CorpusError("there is no text to score")
        if label is not None:
            known = matching_label(label, self.vocabulary.labels)
            text = self.vocabulary.label_symbol(known) + text
        ids = self.vocabulary.encode(text)
        step = -1 if self.backward else 1
        scores = self._log_probs(ids[::step], dynamic, streams)[::step]
        if self.vocabulary.labels:
            predicted = ids < self.vocabulary.first_label_id
            ids, scores = ids[predicted], scores[predicted]
        if self.vocabulary.level == "byte":
            scores = np.add.reduceat(scores, self.vocabulary.character_starts(ids))
        unknown = self.vocabulary.unknown_id
        count = 0 if unknown is None else int((ids == unknown).sum())
        return Score(shown, scores, count)

    def _read_like_file(self, text: str, name: str = "text", *, document_ends: bool = True) -> str:
        """Read a text like a file of the corpus, with or without `document_ends`."""
        text = self._checked_text(text, name)
        if self.raw:
            separated = text and document_ends and self.vocabulary.separator_id is not None
            return text + (SEPARATOR if separated else "")
        config = self.reading(CorpusConfig(errors="replace"))
        if not document_ends:
            config = replace(config, documents=None)
        return "".join(read([from_texts([text])], config))

    def _log_probs(
        self, ids: NDArray[Any], dynamic: bool = False, streams: int = 1
    ) -> NDArray[np.float32]:
        """Return log-probabilities (N,) of ids (N,), both in the model's reading order."""
        start = self.vocabulary.start_id
        with autocast(self.model.device, self.precision):
            if dynamic:
                first_label = self.vocabulary.first_label_id
                scores = dynamic_log_probs(self.model, ids, start, first_label_id=first_label)
            else:
                scores = log_probs(self.model, ids, start, streams)
        if self.counts is not None:
            scores = self.counts.mix_log_probs(scores, ids, start).astype(np.float32)
        if np.isnan(scores).any():
            raise ChargenError(
                "the model's predictions are not numbers (NaN): its weights overflow"
            )
        return scores

    @property
    def trained_reading(self) -> dict[str, Any]:
        """Fields of `CorpusConfig` with which the training corpus was read; empty if unknown."""
        corpus = self.checkpoint and self.checkpoint.document("config").get("corpus")
        fields = corpus.get("config") if isinstance(corpus, dict) else None
        return fields if isinstance(fields, dict) else {}

    def reading(self, asked: CorpusConfig, corpora: Sequence[str] = ()) -> CorpusConfig:
        """Return how to read text for this model: as `asked`, otherwise as in training.

        Documents are separated as in training; but if they were rows and `corpora` are not tables,
        each file is a document. Text is cleaned and normalized as in training unless `asked`
        specifies how.
        """
        documents, label_column = self.documents_of(asked, corpora)
        if label_column and not self.vocabulary.labels:
            raise ConfigError("--label-column: the model was trained without labels")
        return replace(
            asked,
            documents=documents,
            clean=asked.clean or self.trained_reading.get("clean"),
            normalize=asked.normalize or self.trained_reading.get("normalize"),
            label_column=label_column,
            raw_bytes=self.raw,
        )

    def documents_of(
        self, asked: CorpusConfig, corpora: Sequence[str]
    ) -> tuple[str | None, str | None]:
        """Return how to separate documents, as in training if possible, and the label column."""
        trained = self.trained_reading
        documents, column = trained.get("documents"), trained.get("label_column")
        tables = documents == "rows" and bool(corpora) and are_tables(corpora, asked)
        by_row = tables and asked.documents in (None, "rows") and not asked.label_column
        if by_row and column and have_column(corpora, asked, column):
            return "rows", column
        whole = documents == "rows" and not tables and not asked.label_column
        return "files" if whole else documents, asked.label_column

    def save(self, directory: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write a checkpoint in one atomic step, without the state that resuming needs.

        With `force`, the checkpoint replaces an existing checkpoint, but nothing else.

        Raises
        ------
        ConfigError, CheckpointError
            If `directory` exists and is not empty, or cannot be written.
        """
        weights = self.model.state_dict()
        stored = storage.pack(self.model.config, weights, self.vocabulary, self.counts)
        save_model(Path(directory), stored, self.checkpoint, force)

    def with_counts(
        self,
        text: str,
        valid: str | None = None,
        *,
        order: int = CountsConfig.order,
        max_characters: int = CountsConfig.max_characters,
    ) -> LanguageModel:
        """Return a model that mixes in an n-gram model of a text; steering is left out.

        The text must be one that the model may repeat, because `save` stores it in the checkpoint.

        Parameters
        ----------
        text : str
            The counted text, read like a file of the corpus.
        valid : str, optional
            Other text, on which the weight of the counts is fitted; by default the last tenth of
            `text`, which is then not counted.
        order : int
            Characters in the longest context (bytes for a model of bytes), at most 16.
        max_characters : int
            Only the last `max_characters` of the text are counted (bytes for a model of bytes).

        Raises
        ------
        CorpusError
            If `text` or `valid` is not a `str`, or is empty.
        ConfigError
            If `order` or `max_characters` is out of range.
        """
        ids = self.vocabulary.encode(self._read_like_file(text))
        if valid is None:
            ids, held_out = np.split(ids, [round(0.9 * len(ids))])
        else:
            held_out = self.vocabulary.encode(self._read_like_file(valid, "valid"))
        step = -1 if self.backward else 1
        config = CountsConfig(order, max_characters)
        return self.count(ids[::step], held_out[::step], config)[0]

    def count(
        self, ids: NDArray[np.integer], valid: NDArray[np.integer], config: CountsConfig
    ) -> tuple[LanguageModel, Gain]:
        """Return the model of `with_counts` for ids in its reading order, and the counts' gain."""
        end = slice(config.max_characters) if self.backward else slice(-config.max_characters, None)
        ids, valid = np.array(ids[end]), np.array(valid[:HELD_OUT_SYMBOLS])
        scored = valid < self.vocabulary.first_label_id
        if not len(ids) or not scored.any():
            raise CorpusError("counts need a text, and held-out text to fit their weight")
        lm = type(self)(self.model, self.vocabulary, self.checkpoint)
        lm.precision = self.precision
        network_log_probs = lm._log_probs(valid)
        start = self.vocabulary.start_id
        counts = Counts(ids, self.vocabulary.size, config.order)
        counted = counts.id_probabilities(valid, start)
        network, counted = np.exp(network_log_probs[scored].astype(np.float64)), counted[scored]
        lm.counts = counts
        counts.weight = weight = best_weight(network, counted)
        characters = self.vocabulary.count_characters(valid[scored])
        mixed = (1 - weight) * network + weight * counted
        nats = (-float(np.log(p).sum()) / characters for p in (network, counted, mixed))
        return lm, Gain(*nats)

    def encode(self, texts: Iterable[str], *, as_is: bool = False) -> NDArray[np.float32]:
        """Turn texts into feature vectors from the outputs of the last layer.

        Parameters
        ----------
        texts : iterable of str
            Each text is read like a file, cleaned as in training, as one document without its end.
        as_is : bool
            Encode exactly these characters.

        Returns
        -------
        (len(texts), 3 H) float32
            Last, mean and maximum output over the text (concat pooling; Howard & Ruder 2018).
        """
        named = ((text, f"texts[{index}]") for index, text in enumerate(given_list(texts, "texts")))
        read = (
            self._checked_text(*item) if as_is else self._read_like_file(*item, document_ends=False)
            for item in named
        )
        start, step = self.vocabulary.start_id, -1 if self.backward else 1
        with autocast(self.model.device, self.precision):
            rows = [
                pooled_outputs(self.model, self.vocabulary.encode(text)[::step], start)
                for text in read
            ]
        return np.stack(rows) if rows else np.empty((0, 3 * self.model.hidden_size), np.float32)


def load(directory: str | Path, device: str = "cpu", precision: str = "float32") -> LanguageModel:
    """Read a language model; see `LanguageModel.load`."""
    return LanguageModel.load(directory, device, precision)
