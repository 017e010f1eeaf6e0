"""Catalogue of the texts that can be read by name: their content, origin and parts.

It also parses names and addresses. The cache (`fetching`), downloads and archives (`unpacking`)
have modules of their own, so importing this one is cheap.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from chargen.errors import CorpusError, printable

SCHEMES = ("http", "https", "file")
GUTENBERG = "gutenberg"
RECORD = "dataset.json"
"""File that describes a data set, beside its parts; none of them may have that name."""


@dataclass(frozen=True)
class Remote:
    """A file to fetch; a hash has the form ``algorithm:hex``, or is None if it is unknown."""

    url: str
    known_hash: str | None = None
    member_hash: str | None = None  # of the only file inside, if this is an archive of one file


@dataclass(frozen=True)
class Dataset:
    """A data set of the catalogue, a book of Project Gutenberg, or the file at an address."""

    name: str
    about: str
    parts: dict[str, str]  # name of each part, as in ``enwik8:test``, and its file
    licence: str
    # how the files become the parts: "text", "splits", "gutenberg", "reviews", "tables" or
    # "archive" (see `unpacking`); "shipped" if the texts come with the package
    unpack: str = "shipped"
    size: int = 0  # approximate bytes to fetch; 0 if unknown
    files: tuple[Remote, ...] = ()
    language: str = "English"
    reading: tuple[str, ...] = ("train",)  # the parts to read if no part is asked for
    valid: str | None = None  # the part to validate on if no part is asked for
    labelled: str | None = None  # the part to learn labels from if no part is asked for


_ALL = ("all",)
_OWN_LICENCE = "CC0-1.0"
_SPLITS = {"train": "train.txt", "valid": "valid.txt", "test": "test.txt"}
_WIKIPEDIA = "text of Wikipedia: CC BY-SA 3.0 and GFDL"
_GITHUB = "https://raw.githubusercontent.com"
_SST2 = f"{_GITHUB}/openai/generating-reviews-discovering-sentiment/master/data"

_DATASETS = (
    Dataset(
        "essays",
        "five familiar essays, written for this project",
        parts={"all": "essays.txt"},
        licence=_OWN_LICENCE,
        reading=_ALL,
    ),
    Dataset(
        "prose",
        "those essays, tales with two plays and some verse, and a novella, 390 KB written for this "
        "project",
        parts={"essays": "essays.txt", "tales": "tales.txt", "novella": "novella.txt"},
        licence=_OWN_LICENCE,
        reading=("essays", "tales", "novella"),
    ),
    Dataset(
        "opinions",
        "240 and 60 labelled opinions about films, kettles, hotels and more, written for this "
        "project",
        parts={"train": "opinions.csv", "test": "opinions-heldback.csv"},
        licence=_OWN_LICENCE,
        labelled="train",
    ),
    Dataset(
        "shakespeare",
        "40,000 lines of Shakespeare's plays, as char-rnn and nanoGPT use them",
        parts={"all": "shakespeare.txt"},
        licence="public domain",
        unpack="text",
        size=1_115_394,
        files=(
            Remote(
                f"{_GITHUB}/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
                "sha256:86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            ),
        ),
        reading=_ALL,
    ),
    Dataset(
        "text8",
        "Wikipedia of 2006 in 27 letters, with the 90/5/5 split that papers use",
        parts=_SPLITS,
        licence=_WIKIPEDIA,
        unpack="splits",
        size=31_344_016,
        files=(
            Remote(
                "https://mattmahoney.net/dc/text8.zip",
                "sha256:a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232",
                "md5:3bea1919949baf155f99411df5fada7e",
            ),
        ),
        valid="valid",
    ),
    Dataset(
        "enwik8",
        "100 MB of Wikipedia's XML of 2006, with the 90/5/5 split that papers use",
        parts=_SPLITS,
        licence=_WIKIPEDIA,
        unpack="splits",
        size=36_445_475,
        files=(
            Remote(
                "https://mattmahoney.net/dc/enwik8.zip",
                "sha256:547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc",
                "md5:a1fa5ffddb56f4953e226637dabbb36a",
            ),
        ),
        language="English and traces of many",
        valid="valid",
    ),
    Dataset(
        "imdb",
        "Large Movie Review Dataset (Maas et al. 2011): 50,000 labelled film reviews and 50,000 "
        "without label; a language model reads all but the test reviews",
        parts={"train": "train.csv", "test": "test.csv", "unsup": "unsup.csv"},
        licence="for research; the reviews belong to their authors",
        unpack="reviews",
        size=84_125_825,
        files=(
            Remote(
                "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
                "md5:7c2ac02c03563afcf9b574c7e56c153a",
            ),
        ),
        reading=("unsup", "train"),
        labelled="train",
    ),
    Dataset(
        "sst2",
        "Stanford Sentiment Treebank (Socher et al. 2013): 9,613 labelled sentences",
        parts={"train": "train.csv", "dev": "dev.csv", "test": "test.csv"},
        licence="for research; the sentences belong to their authors",
        unpack="tables",
        size=1_035_000,
        files=tuple(
            Remote(f"{_SST2}/{part}_binary_sent.csv", f"sha256:{sha256}")
            for part, sha256 in (
                ("train", "6003623bcb35aad3a446a265b8931b7ccab61fcc10f2e9c1fec916ff67c7be35"),
                ("dev", "f34c4987fea208fefc2d62a1b42c83a766cbfc7ce58c2a878ef953cf91f01729"),
                ("test", "519cea7ed4d22fe7ec4eccbb3d5ba6d88902a3b15ce129f476aa8364463a9fc7"),
            )
        ),
        labelled="train",
    ),
)
CATALOGUE = {dataset.name: dataset for dataset in _DATASETS}


@dataclass(frozen=True)
class Reference:
    """A data set, or one part of a data set, that an argument names."""

    dataset: Dataset
    key: str  # name of the data set's folder in the cache
    part: str | None = None

    @property
    def name(self) -> str:
        stem = self.dataset.name
        return stem if self.part is None else f"{stem}-{self.part}"


def parse(argument: str, sha256: str | None = None) -> Reference | None:
    """Return the data set that `argument` names, or None if it can only be a file.

    `argument` is a name of the catalogue, alone or with a part (``enwik8:test``),
    ``gutenberg:NUMBER``, or an http, https or file address, optionally with ``#sha256=...`` at its
    end. `sha256` is the hash that the file must have. Raises `CorpusError` for a part, number,
    address or hash that is not valid.
    """
    try:
        scheme = urlsplit(argument).scheme.lower() if "://" in argument else ""
    except ValueError as error:
        raise CorpusError(f"{printable(argument)} is not an address: {error}") from error
    if scheme:
        return _address(argument, scheme, sha256)
    name, _, part = argument.partition(":")
    if name == GUTENBERG and part:
        if not re.fullmatch("[1-9][0-9]{0,6}", part):
            raise CorpusError(f"{argument}: name a book of Project Gutenberg by its number")
        return Reference(_with_hash(_book(part), sha256), f"{GUTENBERG}-{part}")
    if name not in CATALOGUE:
        return None
    dataset = CATALOGUE[name]
    if part and part not in dataset.parts:
        names = ", ".join(f"{name}:{known}" for known in dataset.parts)
        raise CorpusError(f"{name} has no part {part!r}; its parts are {names}")
    return Reference(_with_hash(dataset, sha256), name, part or None)


def _address(argument: str, scheme: str, sha256: str | None) -> Reference:
    url, _, fragment = argument.partition("#")
    if fragment.startswith("sha256="):
        stated = fragment.removeprefix("sha256=")
        if sha256 is not None and sha256.lower() != stated.lower():
            raise CorpusError(f"{url}: --sha256 and the #sha256= of the address differ")
        sha256 = stated
    if scheme not in SCHEMES:
        raise CorpusError(f"{url}: only {', '.join(SCHEMES)} addresses can be fetched")
    stem = urlsplit(url).path.rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^\w.-]+", "-", stem).strip("-.")[-80:] or "text"
    name = f"text-{name}" if name.lower() == RECORD else name
    kind = "archive" if re.search(r"\.(zip|tar|tgz|tar\.(gz|bz2|xz))$", name.lower()) else "text"
    parts = {"all": name if kind == "text" else "files"}
    files = (Remote(url),)
    dataset = Dataset(name, url, parts, "", kind, 0, files, "", reading=_ALL, labelled="all")
    key = "address-" + hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return Reference(_with_hash(dataset, sha256), key)


def _book(number: str) -> Dataset:
    return Dataset(
        f"{GUTENBERG}-{number}",
        f"book {number} of Project Gutenberg, without its header and licence",
        {"all": f"gutenberg-{number}.txt"},
        "public domain in the USA (see the book's own header)",
        GUTENBERG,
        files=(Remote(f"https://www.gutenberg.org/cache/epub/{number}/pg{number}.txt"),),
        language="",
        reading=_ALL,
    )


def _with_hash(dataset: Dataset, sha256: str | None) -> Dataset:
    if sha256 is None:
        return dataset
    if not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise CorpusError(f"--sha256 must be 64 hexadecimal digits, got {sha256!r}")
    if len(dataset.files) != 1 or dataset.files[0].known_hash:
        raise CorpusError(f"--sha256 is for addresses only: the hash of {dataset.name} is known")
    return replace(
        dataset, files=(replace(dataset.files[0], known_hash=f"sha256:{sha256.lower()}"),)
    )
