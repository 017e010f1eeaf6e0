"""Send checkpoints to the Hugging Face Hub, and fetch them.

Only the files of a checkpoint and its card are sent or fetched. Fetched files are not trusted: name
and size are checked before a file is fetched, hashes and contents before anything is written.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any

from chargen.errors import ChargenError, CheckpointError, ConfigError, MissingExtraError
from chargen.storage import checkpoint
from chargen.storage.checkpoint import MANIFEST, Checkpoint
from chargen.storage.outputs import locked_for_run
from chargen.storage.whole_files import write_file

CARD = "README.md"
"""The file that the hub shows as the description of a model."""

_CARD_NAMES = (CARD, "MODEL_CARD.md")
_MAX_CARD_BYTES = 1 << 20
_MAX_MANIFEST_BYTES = 1 << 20


@dataclass(frozen=True)
class Pushed:
    """The result of `push`."""

    url: str  # of the repository
    revision: str  # hash of the commit
    files: tuple[str, ...]
    bytes: int


def push(
    directory: str | os.PathLike[str],
    repo: str,
    *,
    public: bool = False,
    training: bool = False,
    message: str | None = None,
    license: str | None = None,
    language: str | None = None,
) -> Pushed:
    """Send a checkpoint and its card to the hub as one commit, which replaces earlier ones.

    Without `training`, the folders are removed from the names of the texts, because they describe
    the machine.

    Parameters
    ----------
    directory : path
    repo : str
        ``user/name``; it is created if it does not exist.
    public : bool
        Whether a new repository is public. An existing repository is not changed.
    training : bool
        Also send the state that resuming needs.
    message : str, optional
        Commit message.
    license, language : str, optional
        Values for the card in the hub's spelling, such as ``mit`` and ``en``.

    Raises
    ------
    CheckpointError
        If there is no checkpoint, or the hub refuses it or cannot be reached.
    ConfigError
        If `repo` is not a valid name, the card's header is invalid, or there is no state for
        `training`.
    MissingExtraError
        Without huggingface_hub.
    """
    stored = checkpoint.load(directory, training=training)
    if training and "training/state" not in stored.documents:
        raise ConfigError(f"{directory} has no training state: leave --training out")
    contents = checkpoint.file_contents(stored if training else _without_folders(stored))
    asked = {"license": license, "language": language}
    with _hub(repo) as api:
        contents[CARD] = _card(stored, {name: value for name, value in asked.items() if value})
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        url = api.create_repo(repo, private=not public, exist_ok=True)
        present = {sibling.rfilename for sibling in api.model_info(url.repo_id).siblings or ()}
        stale = {name for name in present - set(contents) if _is_checkpoint_file(name)}
        commit = api.create_commit(
            url.repo_id,
            [
                *(CommitOperationAdd(name, data) for name, data in sorted(contents.items())),
                *(CommitOperationDelete(name) for name in sorted(stale)),
            ],
            commit_message=message or f"A {stored.kind} of chargen",
        )
    size = sum(map(len, contents.values()))
    return Pushed(str(url), commit.oid, tuple(sorted(contents)), size)


def pull(
    repo: str,
    out: str | os.PathLike[str] | None = None,
    *,
    revision: str | None = None,
    force: bool = False,
    training: bool = False,
) -> Path:
    """Fetch a checkpoint from the hub, check it, and write it in one atomic step.

    Parameters
    ----------
    repo : str
        ``user/name``.
    out : path, optional
        ``checkpoints/<name>`` by default.
    revision : str, optional
        A branch, tag or commit; all files come from one commit.
    force : bool
        Replace a checkpoint that exists.
    training : bool
        Also fetch the state that resuming needs, if it is there.

    Raises
    ------
    CheckpointError
        If there is no such repository or checkpoint, or it does not match its manifest.
    ConfigError
        If `out` exists, or a name is not valid.
    MissingExtraError
        Without huggingface_hub.
    """
    _check_name(repo)
    directory = Path(out) if out is not None else Path("checkpoints") / repo.rpartition("/")[2]
    with (
        locked_for_run(directory, force),
        _hub(repo) as api,
        tempfile.TemporaryDirectory(prefix="chargen-") as folder,
    ):
        info = api.model_info(repo, revision=revision, files_metadata=True)
        sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or ()}

        def fetch(name: str) -> Path:
            local_path = api.hf_hub_download(repo, name, revision=info.sha, local_dir=folder)
            return Path(str(local_path))

        _fetch_checkpoint(repo, Path(folder), sizes, fetch, training)
        stored = checkpoint.load(folder, training=training)
        _check_model(stored)
        has_card = (sizes.get(CARD) or _MAX_CARD_BYTES + 1) <= _MAX_CARD_BYTES
        card = fetch(CARD).read_bytes()[:_MAX_CARD_BYTES] if has_card else None
        checkpoint.save(directory, replace(stored, path=None))
        if card is not None:
            write_file(str(directory / CARD), card)
    return directory


# ---------------------------------------------------------------- sending


_PATH_FIELDS = (
    ("corpus", "arguments"),
    ("corpus", "start_from"),
    ("corpus", "replay"),
    ("corpus", "config", "valid"),
    ("data",),
    ("encoder",),
    ("finetune", "valid"),
    ("finetune", "unlabelled"),
)
"""Fields of a configuration that name files: of language models, then of classifiers."""


def _without_folders(stored: Checkpoint) -> Checkpoint:
    """Remove the folders from the names of texts and models, also where sentences mention them."""
    paths = [path for keys in _PATH_FIELDS for path in _texts_at(stored.documents, "config", *keys)]
    # The sentence about a stored steering ends with the path of its texts.
    sources = _texts_at(stored.documents, "steering", "source")
    paths += [sentence.partition(" texts of ")[2] for sentence in sources]
    paths.sort(key=len, reverse=True)  # a path may begin with another one
    pattern = re.compile(rf"(?<!\S)({'|'.join(map(re.escape, paths))})")
    documents = dict(stored.documents)
    for document in {"config", "steering"} & documents.keys():
        documents[document] = _with_last_parts(documents[document], pattern)
    return replace(stored, documents=documents)


def _texts_at(value: Any, *keys: str) -> list[str]:
    """Return the strings at `keys` in a JSON value, which has one, a list of them, or none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return [
        text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)
    ]


def _with_last_parts(value: Any, pattern: re.Pattern[str]) -> Any:
    """Reduce the paths in the strings of a JSON value, which `pattern` finds, to their names."""
    if isinstance(value, dict):
        return {key: _with_last_parts(inner, pattern) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_last_parts(inner, pattern) for inner in value]
    return pattern.sub(lambda path: _last_part(path[0]), value) if isinstance(value, str) else value


def _last_part(path: str) -> str:
    # A Windows path accepts both kinds of slash.
    return PureWindowsPath(path).name or path


def _card(stored: Checkpoint, requested_metadata: dict[str, str]) -> bytes:
    """Return the folder's card, or a short one, with the header that the hub expects.

    The card's own header takes precedence over the metadata, and `requested_metadata` over both.
    """
    from huggingface_hub.repocard import RepoCard
    from huggingface_hub.repocard_data import CardData

    assert stored.path is not None
    cards = [stored.path / name for name in _CARD_NAMES if (stored.path / name).is_file()]
    text = (
        f"# A {stored.kind} of chargen\n\nA character-level model. To use it:\n\n"
        "    chargen pull USER/NAME --out checkpoints/name\n"
    )
    if cards:
        text = cards[0].read_text(encoding="utf-8-sig", errors="replace")
    try:
        card: Any = RepoCard(text)
    except Exception as error:  # of YAML, which is no dependency, or ValueError
        raise ConfigError(f"{cards[0]}: its header between --- and --- is not YAML") from error
    header: Any = CardData(**{**_metadata(stored), **card.data.to_dict(), **requested_metadata})
    return f"---\n{header.to_yaml()}\n---\n\n{card.text.lstrip()}".encode()


def _metadata(stored: Checkpoint) -> dict[str, Any]:
    """Return what is known about a model, under the hub's names."""
    from huggingface_hub import EvalResult, ModelCardData

    config: Any = stored.documents.get("config") or {}
    is_lm = "model" in config
    # A classifier has no encoders if it did better without its network.
    networks = [config["model"]] if is_lm else config.get("encoders", [])
    names = (config.get("corpus") or {}).get("arguments") if is_lm else config.get("data")
    names = [_last_part(str(name)) for name in names or ()]
    datasets = [_DATASETS[name] for name in names if name in _DATASETS]
    # The figures of a run are those of its network, without counts that were added later.
    results = {} if config.get("counts") else config.get("results") or {}
    task = "text-generation" if is_lm else "text-classification"
    evaluations = [
        EvalResult(
            task_type=task,
            dataset_type=datasets[0] if datasets else "text",
            dataset_name=", ".join(names) or "text",
            dataset_split="validation",
            metric_type=metric,
            metric_value=results[name],
        )
        for name, metric in _METRICS.items()
        if results.get(name) is not None
    ]
    data: Any = ModelCardData(
        library_name="chargen",
        pipeline_tag=task,
        tags=["character-level", *{str(network["cell"]): None for network in networks}],
        datasets=datasets or None,
        model_name=stored.path.name if stored.path else "model",
        eval_results=evaluations or None,
    )
    known: dict[str, Any] = data.to_dict()
    return known


_METRICS = {
    "valid_bits_per_char": "bits_per_character",
    "valid_accuracy": "accuracy",
    "valid_macro_f1": "f1",
}
_DATASETS = {
    "imdb": "stanfordnlp/imdb",
    "shakespeare": "karpathy/tiny_shakespeare",
    "sst2": "stanfordnlp/sst2",
}
"""The hub's names of our data sets, where it has them."""


def _is_checkpoint_file(name: str) -> bool:
    """Return whether a file of the repository belongs to a checkpoint."""
    return name == MANIFEST or (
        name.endswith((".json", ".safetensors"))
        and (name.count("/") == 0 or name.startswith("training/"))
    )


# ---------------------------------------------------------------- fetching


def _fetch_checkpoint(
    repo: str,
    folder: Path,
    sizes: Mapping[str, int | None],
    fetch: Callable[[str], object],
    training: bool,
) -> None:
    """Fetch the manifest and the files that it lists, refusing files of the wrong size."""

    def refuse_unless(name: str, fits: bool) -> None:
        if not fits:
            raise CheckpointError(f"{repo}: {name} does not have the size in the manifest")

    if MANIFEST not in sizes:
        raise CheckpointError(f"{repo} has no checkpoint of chargen: it has no {MANIFEST}")
    refuse_unless(MANIFEST, (sizes[MANIFEST] or _MAX_MANIFEST_BYTES + 1) <= _MAX_MANIFEST_BYTES)
    fetch(MANIFEST)
    for name, size in checkpoint.file_sizes(folder).items():
        if training or "/" not in name:
            if name not in sizes:
                raise CheckpointError(f"{repo} is incomplete: {name} is missing")
            refuse_unless(name, sizes[name] == size)
            fetch(name)


def _check_model(stored: Checkpoint) -> None:
    """Raise `CheckpointError` if intact files do not make up a valid model."""
    from chargen.lm import storage as models
    from chargen.sentiment import storage as classifiers

    if stored.kind == models.KIND:
        _, vocabulary = models.unpack(stored)
        models.unpack_counts(stored, vocabulary)
    elif stored.kind == classifiers.KIND:
        classifiers.unpack(stored)
    else:
        raise CheckpointError(f"a {stored.kind} is not known to this version of chargen")


# ---------------------------------------------------------------- the hub


@contextmanager
def _hub(repo: str) -> Iterator[Any]:
    """Yield the hub's API, and raise its errors as a `ChargenError` with a one-sentence message."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        from huggingface_hub import HfApi, get_token
        from huggingface_hub import errors as hub
    except ImportError as error:
        raise MissingExtraError("push and pull need huggingface_hub, which", "hub") from error
    unreached: Any = vars(hub)["HTTPError"]  # of the httpx that the hub's library uses
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    _check_name(repo)
    try:
        _check_token(get_token)
        yield HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="chargen")
    except ChargenError:
        raise
    except hub.HFValidationError as error:
        raise ConfigError(f"{repo!r} is not the name of a repository: give USER/NAME") from error
    except ValueError as error:
        if "README.md" not in str(error):
            raise
        reason = " ".join(str(error).split())
        raise ConfigError(f"the hub refuses the card of {repo}: {reason[:300]}") from error
    except hub.LocalTokenNotFoundError as error:
        raise CheckpointError(f"{repo}: {_LOG_IN_ADVICE}") from error
    except hub.RevisionNotFoundError as error:
        raise CheckpointError(f"{repo} has no such revision") from error
    except hub.GatedRepoError as error:
        raise CheckpointError(f"{repo} needs permission: ask its owner for access") from error
    except hub.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"there is no repository {repo}, or it is private: {_LOG_IN_ADVICE}"
        ) from error
    except hub.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no status"
        hint = f": {_LOG_IN_ADVICE}" if status in (401, 403) else ""
        raise CheckpointError(f"the hub refused {repo} ({status}){hint}") from error
    except (
        unreached,
        hub.OfflineModeIsEnabled,
        hub.EntryNotFoundError,
        hub.FileMetadataError,
    ) as error:
        raise CheckpointError(f"the hub cannot be reached for {repo}") from error


def _check_name(repo: str) -> None:
    if not isinstance(repo, str) or not _NAME.fullmatch(repo):
        raise ConfigError(f"{repo!r} is not the name of a repository: give USER/NAME")


def _check_token(get_token: Callable[[], str | None]) -> None:
    """Refuse a token that cannot be sent in a header, which holds only printable ASCII."""
    try:
        token = get_token()
    except UnicodeDecodeError as error:  # in the file that hf auth login wrote
        raise ConfigError(_INVALID_TOKEN) from error
    if token is not None and not re.fullmatch("[!-~]*", token):
        raise ConfigError(_INVALID_TOKEN)


_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_INVALID_TOKEN = (
    "the token for the hub has invalid characters: set HF_TOKEN to a token of your account, or "
    "log in again with `hf auth login`"
)
_LOG_IN_ADVICE = "log in with `hf auth login`, or set HF_TOKEN"
