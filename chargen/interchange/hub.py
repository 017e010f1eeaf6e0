"""Send checkpoints to the Hugging Face Hub, and fetch them.

Only the files of a checkpoint are sent or fetched. Fetched files are not trusted: names and sizes
are checked before anything is fetched, hashes and contents before anything is written.
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
from chargen.storage.outputs import claimed
from chargen.storage.whole_files import write_file

CARD = "README.md"
"""What people read about a model on the hub."""

_CARDS = (CARD, "MODEL_CARD.md")
_MOST_CARD = 1 << 20
_MOST_MANIFEST = 1 << 20


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
    """Send a checkpoint to the hub as one commit, which replaces an earlier checkpoint.

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
        Message of the commit.
    license, language : str, optional
        Values for the card, in the spelling of the hub: ``mit``, ``en``.

    Raises
    ------
    CheckpointError
        If there is no checkpoint, or the hub refuses it or cannot be reached.
    ConfigError
        If `repo` is not a valid name, or the card's header is invalid.
    MissingExtraError
        Without huggingface_hub.
    """
    stored = checkpoint.load(directory, training=training)
    contents = checkpoint.packed(stored if training else _without_folders(stored))
    asked = {"license": license, "language": language}
    with _hub(repo) as api:
        contents[CARD] = _card(stored, {name: value for name, value in asked.items() if value})
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        url = api.create_repo(repo, private=not public, exist_ok=True)
        there = {sibling.rfilename for sibling in api.model_info(url.repo_id).siblings or ()}
        stale = {name for name in there - set(contents) if _is_ours(name)}
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
        claimed(directory, force),
        _hub(repo) as api,
        tempfile.TemporaryDirectory(prefix="chargen-") as folder,
    ):
        info = api.model_info(repo, revision=revision, files_metadata=True)
        sizes = {found.rfilename: found.size for found in info.siblings or ()}

        def fetch(name: str) -> Path:
            found = api.hf_hub_download(repo, name, revision=info.sha, local_dir=folder)
            return Path(str(found))

        _fetch_checkpoint(repo, Path(folder), sizes, fetch, training)
        stored = checkpoint.load(folder, training=training)
        _check_model(stored)
        checkpoint.save(directory, replace(stored, path=None))
        if (sizes.get(CARD) or _MOST_CARD + 1) <= _MOST_CARD:
            write_file(str(directory / CARD), fetch(CARD).read_bytes()[:_MOST_CARD])
    return directory


# ---------------------------------------------------------------- what is sent


_NAMES_OF_TEXTS = (
    ("corpus", "arguments"),
    ("corpus", "start_from"),
    ("corpus", "replay"),
    ("corpus", "config", "valid"),
    ("data",),
    ("encoder",),
    ("finetune", "valid"),
    ("finetune", "unlabelled"),
)
"""Where a configuration names files: of a language model, then of a classifier."""


def _without_folders(stored: Checkpoint) -> Checkpoint:
    """The same model whose configuration does not say in which folders its texts lay."""
    documents: Any = stored.documents
    for place in _NAMES_OF_TEXTS:
        documents = _shortened(documents, ("config", *place))
    return replace(stored, documents=documents)


def _shortened(value: Any, place: tuple[str, ...]) -> Any:
    """A JSON value with the last parts alone of the paths at a place in it, if there are any."""
    if place:
        first, *rest = place
        if not isinstance(value, dict) or first not in value:
            return value
        return value | {first: _shortened(value[first], tuple(rest))}
    if isinstance(value, list):
        return [_last_part(name) for name in value]
    return _last_part(value) if isinstance(value, str) else value


def _last_part(name: Any) -> str:
    # A Windows path knows both kinds of slash.
    return PureWindowsPath(str(name)).name or str(name)


def _card(stored: Checkpoint, asked: dict[str, str]) -> bytes:
    """The card of the folder, or a short one, with the header that the hub looks for.

    What stands in the card's own header stays; what is `asked` for goes before both.
    """
    from huggingface_hub.repocard import RepoCard
    from huggingface_hub.repocard_data import CardData

    assert stored.path is not None
    cards = [stored.path / name for name in _CARDS if (stored.path / name).is_file()]
    text = (
        f"# A {stored.kind} of chargen\n\nA character-level model. To use it:\n\n"
        "    chargen pull USER/NAME --out checkpoints/name\n"
    )
    if cards:
        text = cards[0].read_text(encoding="utf-8", errors="replace")
    try:
        card: Any = RepoCard(text)
    except Exception as error:  # that of YAML, which is not among our dependencies, or ValueError
        raise ConfigError(f"{cards[0]}: its header between --- and --- is not YAML") from error
    header: Any = CardData(**{**_metadata(stored), **card.data.to_dict(), **asked})
    return f"---\n{header.to_yaml()}\n---\n\n{card.text.lstrip()}".encode()


def _metadata(stored: Checkpoint) -> dict[str, Any]:
    """What is known of a model, by the hub's names for it."""
    from huggingface_hub import EvalResult, ModelCardData

    config: Any = stored.documents.get("config") or {}
    writes = "model" in config
    # A classifier may have done better without its network.
    networks = [config["model"]] if writes else config.get("encoders", [])
    names = (config.get("corpus") or {}).get("arguments") if writes else config.get("data")
    names = [_last_part(name) for name in names or ()]
    datasets = [_DATASETS[name] for name in names if name in _DATASETS]
    results = config.get("results") or {}
    task = "text-generation" if writes else "text-classification"
    found = [
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
        eval_results=found or None,
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
"""Those of our names that the hub has too, by its own."""


def _is_ours(name: str) -> bool:
    """Whether a file of the repository is one of a checkpoint's."""
    return name == MANIFEST or (
        name.endswith((".json", ".safetensors"))
        and (name.count("/") == 0 or name.startswith("training/"))
    )


# ---------------------------------------------------------------- what arrives


def _fetch_checkpoint(
    repo: str,
    folder: Path,
    sizes: Mapping[str, int | None],
    fetch: Callable[[str], object],
    training: bool,
) -> None:
    """Fetch the manifest and what it names; a file of another size is refused before that."""

    def refuse_unless(name: str, fits: bool) -> None:
        if not fits:
            raise CheckpointError(f"{repo}: {name} does not have the size in the manifest")

    if MANIFEST not in sizes:
        raise CheckpointError(f"{repo} has no checkpoint of chargen: it has no {MANIFEST}")
    refuse_unless(MANIFEST, (sizes[MANIFEST] or _MOST_MANIFEST + 1) <= _MOST_MANIFEST)
    fetch(MANIFEST)
    for name, size in checkpoint.listed_files(folder).items():
        if training or "/" not in name:
            if name not in sizes:
                raise CheckpointError(f"{repo} is incomplete: {name} is missing")
            refuse_unless(name, sizes[name] == size)
            fetch(name)


def _check_model(stored: Checkpoint) -> None:
    """Raise where the files are whole and still make no model."""
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
    """The hub's interface; its errors come out as sentences."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        from huggingface_hub import HfApi, get_token
        from huggingface_hub import errors as hub
    except ImportError as error:
        raise MissingExtraError("push and pull need huggingface_hub, which", "hub") from error
    unreached: Any = vars(hub)["HTTPError"]  # that of whichever httpx it uses
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
        raise CheckpointError(f"{repo}: {_LOG_IN}") from error
    except hub.RevisionNotFoundError as error:
        raise CheckpointError(f"{repo} has no such revision") from error
    except hub.GatedRepoError as error:
        raise CheckpointError(f"{repo} needs permission: ask its owner for access") from error
    except hub.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"there is no repository {repo}, or it is private: {_LOG_IN}"
        ) from error
    except hub.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no status"
        hint = f": {_LOG_IN}" if status in (401, 403) else ""
        raise CheckpointError(f"the hub refused {repo} ({status}){hint}") from error
    except (
        unreached,
        hub.OfflineModeIsEnabled,
        hub.EntryNotFoundError,
        hub.FileMetadataError,
    ) as error:
        raise CheckpointError(f"the hub cannot be reached for {repo}") from error


def _check_name(repo: str) -> None:
    if not _NAME.fullmatch(repo):
        raise ConfigError(f"{repo!r} is not the name of a repository: give USER/NAME")


def _check_token(get_token: Callable[[], str | None]) -> None:
    """Refuse a token that cannot go into a header, which holds printable ASCII alone."""
    try:
        token = get_token()
    except UnicodeDecodeError as error:  # the file of hf auth login
        raise ConfigError(_NO_TOKEN) from error
    if token is not None and not re.fullmatch("[!-~]*", token):
        raise ConfigError(_NO_TOKEN)


_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_NO_TOKEN = (
    "the token for the hub has characters that no token has: set HF_TOKEN to one of your "
    "account's, or log in anew with `hf auth login`"
)
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
