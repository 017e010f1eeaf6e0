"""Texts that are had by name: what they are, where they come from, of which parts they consist.

The catalogue, and what a name means. Knows nothing about the cache (`fetching`), downloads or
archives (`unpacking`); importing it costs nothing.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from chargen.errors import CorpusError

SCHEMES = ("http", "https", "file")
GUTENBERG = "gutenberg"


@dataclass(frozen=True)
class Remote:
    """A file to fetch."""

    url: str
    known_hash: str | None = None  # ``algorithm:hex``; None where nobody publishes one
    # the same of the one file inside it, where it is an archive of one
    member_hash: str | None = None


@dataclass(frozen=True)
class Dataset:
    """An entry of the catalogue."""

    name: str  # for people
    about: str
    language: str
    licence: str
    size: int  # bytes to fetch, about; 0 where that is not known
    files: tuple[Remote, ...]  # none of them where the texts come with the package
    # how the files become the parts: "text", "splits", "gutenberg", "reviews", "tables" or
    # "archive" (see `unpacking`), or "shipped"
    unpack: str
    parts: dict[str, str]  # file of each part that a name can ask for, as in ``enwik8:test``
    reading: tuple[str, ...]  # the parts that are read where no part is asked for
    valid: str | None = None  # the part to validate on where the name stands alone
    labelled: str | None = None  # the part to learn labels from where no part is asked for


_SPLITS = {"train": "train.txt", "valid": "valid.txt", "test": "test.txt"}
_WIKIPEDIA = "text of Wikipedia: CC BY-SA 3.0 and GFDL"
_SST2 = "https://raw.githubusercontent.com/openai/generating-reviews-discovering-sentiment/master"

CATALOGUE = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            name="essays",
            about="five familiar essays, written for this project",
            language="English",
            licence="CC0-1.0",
            size=0,
            files=(),
            unpack="shipped",
            parts={"all": "essays.txt"},
            reading=("all",),
        ),
        Dataset(
            name="prose",
            about="those essays, tales with two plays and some verse, and a novella, 390 KB "
            "written for this project",
            language="English",
            licence="CC0-1.0",
            size=0,
            files=(),
            unpack="shipped",
            parts={"essays": "essays.txt", "tales": "tales.txt", "novella": "novella.txt"},
            reading=("essays", "tales", "novella"),
        ),
        Dataset(
            name="opinions",
            about="240 and 60 labelled opinions about films, kettles, hotels and more, written for "
            "this project",
            language="English",
            licence="CC0-1.0",
            size=0,
            files=(),
            unpack="shipped",
            parts={"train": "opinions.csv", "test": "opinions-heldback.csv"},
            reading=("train",),
            labelled="train",
        ),
        Dataset(
            name="shakespeare",
            about="40,000 lines of Shakespeare's plays, as char-rnn and nanoGPT use them",
            language="English",
            licence="public domain",
            size=1_115_394,
            files=(
                Remote(
                    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/"
                    "tinyshakespeare/input.txt",
                    "sha256:86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
                ),
            ),
            unpack="text",
            parts={"all": "shakespeare.txt"},
            reading=("all",),
        ),
        Dataset(
            name="text8",
            about="Wikipedia of 2006 in 27 letters, with the 90/5/5 split that papers use",
            language="English",
            licence=_WIKIPEDIA,
            size=31_344_016,
            files=(
                Remote(
                    "https://mattmahoney.net/dc/text8.zip",
                    "sha256:a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232",
                    "md5:3bea1919949baf155f99411df5fada7e",
                ),
            ),
            unpack="splits",
            parts=_SPLITS,
            reading=("train",),
            valid="valid",
        ),
        Dataset(
            name="enwik8",
            about="100 MB of Wikipedia's XML of 2006, with the 90/5/5 split that papers use",
            language="English and traces of many",
            licence=_WIKIPEDIA,
            size=36_445_475,
            files=(
                Remote(
                    "https://mattmahoney.net/dc/enwik8.zip",
                    "sha256:547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc",
                    "md5:a1fa5ffddb56f4953e226637dabbb36a",
                ),
            ),
            unpack="splits",
            parts=_SPLITS,
            reading=("train",),
            valid="valid",
        ),
        Dataset(
            name="imdb",
            about="Large Movie Review Dataset (Maas et al. 2011): 50,000 labelled film reviews and "
            "50,000 without label; a language model reads all but the test reviews",
            language="English",
            licence="for research; the reviews belong to their authors",
            size=84_125_825,
            files=(
                Remote(
                    "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
                    "md5:7c2ac02c03563afcf9b574c7e56c153a",
                ),
            ),
            unpack="reviews",
            parts={"train": "train.csv", "test": "test.csv", "unsup": "unsup.csv"},
            reading=("unsup", "train"),
            labelled="train",
        ),
        Dataset(
            name="sst2",
            about="Stanford Sentiment Treebank (Socher et al. 2013): 9,613 labelled sentences",
            language="English",
            licence="for research; the sentences belong to their authors",
            size=1_035_000,
            files=(
                Remote(
                    f"{_SST2}/data/train_binary_sent.csv",
                    "sha256:6003623bcb35aad3a446a265b8931b7ccab61fcc10f2e9c1fec916ff67c7be35",
                ),
                Remote(
                    f"{_SST2}/data/dev_binary_sent.csv",
                    "sha256:f34c4987fea208fefc2d62a1b42c83a766cbfc7ce58c2a878ef953cf91f01729",
                ),
                Remote(
                    f"{_SST2}/data/test_binary_sent.csv",
                    "sha256:519cea7ed4d22fe7ec4eccbb3d5ba6d88902a3b15ce129f476aa8364463a9fc7",
                ),
            ),
            unpack="tables",
            parts={"train": "train.csv", "dev": "dev.csv", "test": "test.csv"},
            reading=("train",),
            labelled="train",
        ),
    )
}


@dataclass(frozen=True)
class Reference:
    """What an argument asks for."""

    dataset: Dataset
    key: str  # names its folder in the cache
    part: str | None = None

    @property
    def name(self) -> str:
        """Short, fit for the name of a folder."""
        stem = self.dataset.name
        return stem if self.part is None else f"{stem}-{self.part}"


def parse(argument: str, sha256: str | None = None) -> Reference | None:
    """What `argument` names, or None where it can only be a file.

    Parameters
    ----------
    argument : str
        A name of the catalogue, alone or with a part (``enwik8:test``), ``gutenberg:NUMBER``, or
        an address that begins with http, https or file; ``#sha256=...`` at its end is what its
        SHA-256 must be.
    sha256 : str, optional
        The same.

    Raises `CorpusError` for a part or a number that cannot be, and a hash that is none.
    """
    scheme = urlsplit(argument).scheme.lower() if "://" in argument else ""
    if scheme:
        return _address(argument, scheme, sha256)
    name, _, part = argument.partition(":")
    if name == GUTENBERG and part:
        if not re.fullmatch("[1-9][0-9]{0,6}", part):
            raise CorpusError(f"{argument}: a book of Project Gutenberg is named by its number")
        return Reference(_with_hash(_book(part), sha256), f"{GUTENBERG}-{part}")
    if name not in CATALOGUE:
        return None
    dataset = CATALOGUE[name]
    if part and part not in dataset.parts:
        there = ", ".join(f"{name}:{known}" for known in dataset.parts)
        raise CorpusError(f"{name} has no part {part!r}; there is {there}")
    return Reference(_with_hash(dataset, sha256), name, part or None)


def _address(argument: str, scheme: str, sha256: str | None) -> Reference:
    url, _, fragment = argument.partition("#")
    if fragment.startswith("sha256="):
        sha256 = sha256 or fragment.removeprefix("sha256=")
    if scheme not in SCHEMES:
        raise CorpusError(f"{url}: only {', '.join(SCHEMES)} addresses can be fetched")
    stem = urlsplit(url).path.rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^\w.-]+", "-", stem).strip("-.")[-80:] or "text"
    kind = "archive" if re.search(r"\.(zip|tar|tgz|tar\.(gz|bz2|xz))$", name.lower()) else "text"
    dataset = Dataset(
        name=name,
        about=url,
        language="",
        licence="",
        size=0,
        files=(Remote(url),),
        unpack=kind,
        parts={"all": name if kind == "text" else "files"},
        reading=("all",),
        labelled="all",
    )
    key = "address-" + hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return Reference(_with_hash(dataset, sha256), key)


def _book(number: str) -> Dataset:
    return Dataset(
        name=f"{GUTENBERG}-{number}",
        about=f"book {number} of Project Gutenberg, without its header and licence",
        language="",
        licence="public domain in the USA (see the book's own header)",
        size=0,
        files=(Remote(f"https://www.gutenberg.org/cache/epub/{number}/pg{number}.txt"),),
        unpack=GUTENBERG,
        parts={"all": f"gutenberg-{number}.txt"},
        reading=("all",),
    )


def _with_hash(dataset: Dataset, sha256: str | None) -> Dataset:
    if sha256 is None:
        return dataset
    if not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise CorpusError(f"--sha256 must be 64 hexadecimal digits, got {sha256!r}")
    if len(dataset.files) != 1 or dataset.files[0].known_hash:
        raise CorpusError(f"--sha256 is for addresses: what {dataset.name} must be is known")
    return replace(
        dataset, files=(replace(dataset.files[0], known_hash=f"sha256:{sha256.lower()}"),)
    )
