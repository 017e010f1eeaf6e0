"""Data sets by name, from a loopback server with faults."""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import io
import json
import os
import random
import stat
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chargen.errors import CorpusError
from chargen.sentiment.config import ExamplesConfig
from chargen.sentiment.examples import read_examples
from chargen.text import datasets, fetching
from chargen.text.config import CorpusConfig
from chargen.text.datasets import Remote, parse
from chargen.text.download import BLOCK_BYTES, Downloader
from chargen.text.sources import corpus_name, read_all, resolve
from tests.text.serving import Site, serving

pytest.importorskip("pooch", reason="needs the extra chargen[data]")
pytest.importorskip("requests", reason="needs the extra chargen[data]")

TEXT = b"".join(b"%d bottles of beer\n" % n for n in range(20_000))
SHA = hashlib.sha256(TEXT).hexdigest()
fetch = functools.partial(
    fetching.fetch,
    downloader=functools.partial(Downloader, timeout=2.0, pause=0.001, progress=False),
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARGEN_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site({"/text.txt": TEXT})) as site:
        yield site


def reference(argument: str, sha256: str | None = None) -> datasets.Reference:
    found = parse(argument, sha256)
    assert found is not None
    return found


def begin(asked: str | None) -> int:
    """Where a Range header begins."""
    assert asked is not None
    return int(asked.removeprefix("bytes=").removesuffix("-"))


def left_in(folder: Path) -> set[str]:
    """What a fetch left behind beside the data sets."""
    return {p.name for p in folder.iterdir() if p.suffix != ".lock"} if folder.exists() else set()


def test_a_file_is_fetched_once_and_found_again_without_a_network(site: Site) -> None:
    asked = reference(site.url("/text.txt"), SHA)
    found = fetch(asked)
    assert found.path("all").read_bytes() == TEXT
    assert found.sha256 == (SHA,)
    again = fetch(asked)
    assert again == found
    assert len(site.asked) == 1
    fetch(asked, again=True)
    assert len(site.asked) == 2


def test_a_connection_that_is_cut_goes_on_where_it_stopped(site: Site) -> None:
    site.cut["/text.txt"] = [100_000, 50_000, None]
    found = fetch(reference(site.url("/text.txt"), SHA))
    assert found.path("all").read_bytes() == TEXT
    first, second, third = (asked for _, asked in site.asked)
    assert first is None
    assert 100_000 - BLOCK_BYTES < begin(second) <= 100_000
    assert 50_000 - BLOCK_BYTES < begin(third) - begin(second) <= 50_000


def test_a_later_command_goes_on_too(site: Site, tmp_path: Path) -> None:
    site.cut["/text.txt"] = [100_000] + [0] * 20
    asked = reference(site.url("/text.txt"), SHA)
    with pytest.raises(CorpusError, match=r"bytes are kept, and the next try continues"):
        fetch(asked)
    (kept,) = (tmp_path / "cache" / "datasets").glob("*.part")
    there = kept.stat().st_size
    assert 100_000 - BLOCK_BYTES < there <= 100_000
    assert not fetching.cached(asked)
    site.cut.clear()
    site.asked.clear()
    assert fetch(asked).path("all").read_bytes() == TEXT
    assert site.asked == [("/text.txt", f"bytes={there}-")]
    assert left_in(tmp_path / "cache" / "datasets") == {asked.key}


@pytest.mark.parametrize("change", ["another version", "no ranges"])
def test_halves_of_two_versions_are_never_joined(site: Site, change: str) -> None:
    site.cut["/text.txt"] = [100_000] + [0] * 20
    asked = reference(site.url("/text.txt"))
    with pytest.raises(CorpusError, match="kept"):
        fetch(asked)
    site.cut.clear()
    if change == "another version":
        site.tag, site.files["/text.txt"] = '"two"', TEXT.upper()
    else:
        site.ranges = False
    assert fetch(asked).path("all").read_bytes() == site.files["/text.txt"]


def interrupted(call: Callable[..., Any], ending: str) -> Callable[..., Any]:
    """A method of paths that is interrupted for files of this ending."""

    def method(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.suffix == ending:
            raise KeyboardInterrupt
        return call(path, *arguments, **options)

    return method


def test_an_interruption_joins_no_halves_either(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = reference(site.url("/text.txt"))
    for call, ending in ((Path.open, ".part"), (Path.write_text, ".json")):
        site.tag, site.files["/text.txt"] = '"one"', TEXT
        site.cut["/text.txt"] = [100_000] + [0] * 20
        with pytest.raises(CorpusError, match="kept"):
            fetch(asked, again=True)
        site.cut.clear()
        site.tag, site.files["/text.txt"] = '"two"', TEXT.upper()

        with monkeypatch.context() as patch:
            patch.setattr(Path, call.__name__, interrupted(call, ending))
            with pytest.raises(KeyboardInterrupt):
                fetch(asked, again=True)
        assert fetch(asked, again=True).path("all").read_bytes() == TEXT.upper()


def test_a_part_longer_than_the_file_is_begun_anew(site: Site, tmp_path: Path) -> None:
    asked = reference(site.url("/text.txt"), SHA)
    home = tmp_path / "cache" / "datasets"
    home.mkdir(parents=True)
    (home / f"{asked.key}-0.part").write_bytes(b"x" * (len(TEXT) + 5))
    (home / f"{asked.key}-0.part.json").write_text(json.dumps({"validator": site.tag}))
    assert fetch(asked).path("all").read_bytes() == TEXT


def test_a_wrong_hash_keeps_nothing(site: Site, tmp_path: Path) -> None:
    asked = reference(site.url("/text.txt"), "0" * 64)
    with pytest.raises(CorpusError, match=r"its hash is not sha256:0000.*it was not kept"):
        fetch(asked)
    assert not left_in(tmp_path / "cache" / "datasets")


def test_a_wrong_hash_does_not_take_away_what_was_there(site: Site) -> None:
    good = fetch(reference(site.url("/text.txt"), SHA))
    with pytest.raises(CorpusError, match="hash"):
        fetch(reference(site.url("/text.txt"), "0" * 64))
    assert good.path("all").read_bytes() == TEXT


def test_servers_that_are_busy_are_asked_again(site: Site) -> None:
    site.statuses["/text.txt"] = [503, 429]
    assert fetch(reference(site.url("/text.txt"), SHA)).bytes == len(TEXT)


@pytest.mark.parametrize(
    ("status", "said"), [(404, "404 Not Found"), (403, "403 Forbidden"), (500, "500 Internal")]
)
def test_a_refusal_is_told(site: Site, status: int, said: str) -> None:
    site.statuses["/text.txt"] = [status] * 20
    with pytest.raises(CorpusError, match=said):
        fetch(reference(site.url("/text.txt"), SHA))


def test_a_server_that_does_not_answer_is_given_up(site: Site) -> None:
    site.stall = 20.0
    slow = functools.partial(Downloader, timeout=0.05, pause=0.001, progress=False)
    with pytest.raises(CorpusError, match="does not answer in time"):
        fetching.fetch(reference(site.url("/text.txt"), SHA), downloader=slow)


def test_nobody_listens() -> None:
    with serving(Site()) as site:
        url = site.url("/text.txt")
    with pytest.raises(CorpusError, match="Connection refused"):
        fetch(reference(url))


def test_a_redirect_on_the_same_host_is_followed(site: Site) -> None:
    site.redirects["/old"] = "/text.txt"
    assert fetch(reference(site.url("/old"))).bytes == len(TEXT)


def test_a_redirect_to_elsewhere_needs_a_hash(site: Site) -> None:
    with serving(Site({"/text.txt": TEXT})) as elsewhere:
        site.redirects["/old"] = elsewhere.url("/text.txt")
        with pytest.raises(CorpusError, match=r"redirects to another place.*--sha256"):
            fetch(reference(site.url("/old")))
        assert not elsewhere.asked
        assert fetch(reference(site.url("/old"), SHA)).bytes == len(TEXT)


def test_a_redirect_to_the_disk_is_not_followed(site: Site) -> None:
    site.redirects["/old"] = "file:///etc/passwd"
    with pytest.raises(CorpusError, match=r"redirects to file:///etc/passwd, which is not fetched"):
        fetch(reference(site.url("/old"), SHA))


def test_a_redirect_to_what_is_no_address(site: Site) -> None:
    site.redirects["/old"] = "http://[elsewhere/text.txt"
    with pytest.raises(CorpusError, match=r"/old is not an address, or redirects to none: "):
        fetch(reference(site.url("/old")))


def test_redirects_in_a_circle_end(site: Site) -> None:
    site.redirects["/a"], site.redirects["/b"] = "/b", "/a"
    with pytest.raises(CorpusError, match="redirects more than 5 times"):
        fetch(reference(site.url("/a"), SHA))


def test_a_file_address(tmp_path: Path) -> None:
    path = tmp_path / "a book.txt"
    path.write_bytes(TEXT)
    assert fetch(reference(path.as_uri(), SHA)).path("all").read_bytes() == TEXT
    assert path.exists()
    if sys.platform == "linux":  # elsewhere, names of files are text
        path = tmp_path / "caf\udce9.txt"
        path.write_bytes(TEXT)
        assert fetch(reference(f"file://{path}", SHA)).path("all").read_bytes() == TEXT
    for name in ("dataset.json", "Dataset.JSON"):  # the cache has a file of that name
        path = tmp_path / name
        path.write_text('[{"text": "a row"}]')
        assert read_all([path.as_uri()], CorpusConfig()) == "a row\n"
    with pytest.raises(CorpusError, match=r"missing\.txt cannot be read: No such file"):
        fetch(reference((tmp_path / "missing.txt").as_uri()))
    with pytest.raises(CorpusError, match="names another machine"):
        fetch(reference("file://host/book.txt"))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written(site: Site, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(CorpusError, match="CHARGEN_CACHE_DIR"):
        fetch(reference(site.url("/text.txt"), SHA))


def test_a_name_is_a_corpus(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    serve(monkeypatch, site, "shakespeare", "/text.txt", SHA)
    notes: list[str] = []
    assert read_all(["shakespeare"], CorpusConfig(), notes) == TEXT.decode()
    assert notes == [f"fetching {site.url('/text.txt')} (1.1 MB)"]
    assert corpus_name(["shakespeare"]) == "shakespeare"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shakespeare").write_text("my own file\n")
    assert read_all(["shakespeare"], CorpusConfig()) == "my own file\n"


def serve(
    monkeypatch: pytest.MonkeyPatch,
    site: Site,
    name: str,
    path: str,
    sha256: str,
    member_hash: str | None = None,
) -> None:
    """Let an entry of the catalogue come from the loopback server."""
    remote = Remote(site.url(path), f"sha256:{sha256}", member_hash)
    entry = dataclasses.replace(datasets.CATALOGUE[name], files=(remote,))
    monkeypatch.setitem(datasets.CATALOGUE, name, entry)


def zipped(name: str, data: bytes) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return memory.getvalue()


def test_enwik8_is_cut_as_papers_cut_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    # A character of three bytes lies across the first cut.
    data = b"a" * 899 + "\u20ac".encode() + b"b" * 98
    archive = zipped("enwik8", data)
    site.files["/enwik8.zip"] = archive
    member = f"md5:{hashlib.md5(data).hexdigest()}"
    digest = hashlib.sha256(archive).hexdigest()
    serve(monkeypatch, site, "enwik8", "/enwik8.zip", digest, member)
    found = fetch(reference("enwik8"))
    parts = [found.path(part).read_bytes() for part in ("train", "valid", "test")]
    assert b"".join(parts) == data
    assert [len(part) for part in parts] == [899, 51, 50]
    assert fetching.valid_part(["enwik8"]) == "enwik8:valid"
    assert fetching.valid_part(["enwik8:test"]) is None
    assert fetching.valid_part(["enwik8", "other"]) is None
    assert [s.name for s in resolve(["enwik8:test"], CorpusConfig())] == [str(found.path("test"))]


@pytest.mark.parametrize("wrong", ["name", "content", "zip"])
def test_an_archive_that_holds_something_else(
    site: Site, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    data = b"some text " * 100
    archive = zipped("other" if wrong == "name" else "text8", data)
    archive = archive[:-40] if wrong == "zip" else archive
    site.files["/text8.zip"] = archive
    member = "md5:" + ("0" * 32 if wrong == "content" else hashlib.md5(data).hexdigest())
    digest = hashlib.sha256(archive).hexdigest()
    serve(monkeypatch, site, "text8", "/text8.zip", digest, member)
    said = {"name": "holds no file", "content": "not the published", "zip": "damaged"}[wrong]
    with pytest.raises(CorpusError, match=said):
        fetch(reference("text8"))
    assert fetching.cached(reference("text8")) is None


def tarred(files: dict[str, bytes], links: dict[str, str] | None = None, pack: str = "gz") -> bytes:
    memory = io.BytesIO()
    mode: Any = f"w:{pack}"
    with tarfile.open(fileobj=memory, mode=mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return memory.getvalue()


def test_imdb_becomes_tables(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tarred(
        {
            "aclImdb/README": b"read me",
            "aclImdb/train/pos/10_9.txt": b"Good.<br />Really, \xc3\xa9l\xc3\xa9gant",
            "aclImdb/train/neg/2_1.txt": b'Bad, "so" bad',
            "aclImdb/train/unsup/0_0.txt": b"Who knows",
            "aclImdb/train/unsup/../../../escape_1.txt": b"outside",
            "aclImdb/test/pos/0_10.txt": b"Fine",
            "aclImdb/test/neg/0_2.txt": b"Dull",
        },
        {"aclImdb/test/pos/1_10.txt": "/etc/passwd"},
    )
    site.files["/imdb.tgz"] = archive
    serve(monkeypatch, site, "imdb", "/imdb.tgz", hashlib.sha256(archive).hexdigest())
    found = fetch(reference("imdb"))
    with found.path("train").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["label", "rating", "text"],
            ["neg", "1", 'Bad, "so" bad'],
            ["pos", "9", "Good.<br />Really, \u00e9l\u00e9gant"],
        ]
    assert read_examples("imdb", ExamplesConfig()).labels == ("neg", "pos")
    assert read_examples("imdb:test", ExamplesConfig()).texts == ("Dull", "Fine")
    text = read_all(["imdb"], CorpusConfig(clean="html"))
    assert text.split("\n")[:2] == ["Who knows", 'Bad, "so" bad']
    assert "Dull" not in text


def test_a_book_of_gutenberg(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    book = (
        "\ufeffThe Project Gutenberg eBook of Something\r\n\r\nProduced by people\r\n"
        "*** START OF THE PROJECT GUTENBERG EBOOK SOMETHING,\r\nOR OTHER ***\r\n\r\n"
        "It was a dark night.\r\n\r\n"
        "*** END OF THE PROJECT GUTENBERG EBOOK SOMETHING, OR OTHER ***\r\nlicence\r\n"
    )
    site.files["/book.txt"] = book.encode()
    asked = reference("gutenberg:1342")
    assert asked.dataset.files[0].url.startswith("https://www.gutenberg.org/")
    here = dataclasses.replace(asked.dataset, files=(Remote(site.url("/book.txt")),))
    found = fetch(dataclasses.replace(asked, dataset=here))
    assert found.path("all").read_bytes() == b"It was a dark night.\n"
    site.files["/book.txt"] = b"an error page"
    with pytest.raises(CorpusError, match="is not a book"):
        fetch(dataclasses.replace(asked, dataset=here), again=True)
    assert found.path("all").exists()


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_at_an_address_never_chooses_a_path(
    site: Site, kind: str, tmp_path: Path
) -> None:
    files = {
        "book/one.txt": b"first\n",
        "book/./two.txt": b"second\n",
        "../../outside.txt": b"no",
        "/absolute.txt": b"no",
        "C:\\windows.txt": b"no",
        "book/new\nline.txt": b"no",
        "book/\u7b2c\u4e00\u7ae0\u3000\u00a0.txt": b"third\n",  # blanks that are not printable
    }
    if kind == "zip":
        memory = io.BytesIO()
        with zipfile.ZipFile(memory, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
            link = zipfile.ZipInfo("book/link.txt")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, "/etc/passwd")
        data = memory.getvalue()
    else:
        data = tarred(files, {"book/link.txt": "/etc/passwd"})
    site.files[f"/texts.{kind}"] = data
    told: list[str] = []
    found = fetch(reference(site.url(f"/texts.{kind}")), report=told.append)
    assert told[-1] == (
        f"texts.{kind}: left out because of unsafe names: files ../../outside.txt, "
        "/absolute.txt, C:\\windows.txt and book/new\\nline.txt"
    )
    folder = found.path("all")
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == {
        "book/one.txt",
        "book/two.txt",
        "book/\u7b2c\u4e00\u7ae0\u3000\u00a0.txt",
    }
    assert not list(tmp_path.rglob("outside.txt"))
    assert read_all([site.url(f"/texts.{kind}")], CorpusConfig()) == "first\nsecond\nthird\n"


def broken_archives() -> dict[str, bytes]:
    """Archives by the ending of their names: damaged in the middle, cut, encrypted, and so on."""
    noise = random.Random(0).randbytes(2_000_000)  # bzip2 has blocks of at most 900,000 bytes
    broken = {}
    for pack in ("gz", "bz2", "xz"):
        archive = tarred({"a.txt": noise, "b.txt": b"more"}, pack=pack)
        half = len(archive) // 2
        broken[f"tar.{pack}"] = archive[:half] + bytes(60) + archive[half + 60 :]
    broken["tgz"] = tarred({"a.txt": noise, "b.txt": b"more"})[:-5]
    stored = zipped("a.txt", noise[:100])
    local, central = 0, stored.index(b"PK\1\2")
    for ending, at, value in (("flag.zip", 6, 1), ("method.zip", 8, 99)):
        archive = bytearray(stored)
        archive[local + at] = archive[central + at + 2] = value
        broken[ending] = bytes(archive)
    return broken


def test_an_archive_that_cannot_be_read_whole_gives_nothing(tmp_path: Path) -> None:
    for ending, data in broken_archives().items():
        path = tmp_path / f"texts.{ending}"
        path.write_bytes(data)
        with pytest.raises(CorpusError, match=r"is damaged|cannot be unpacked") as told:
            fetch(reference(path.as_uri()))
        assert "CHARGEN_CACHE_DIR" not in str(told.value)
        assert fetching.cached(reference(path.as_uri())) is None


def test_an_archive_that_unpacks_to_too_much(site: Site) -> None:
    site.files["/bomb.zip"] = zipped("zeros.txt", b"0" * 30_000_000)
    with pytest.raises(CorpusError, match="unpacks to more than a text usually does"):
        fetch(reference(site.url("/bomb.zip")))


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("enwik8:first", "has no part 'first'; its parts are enwik8:train"),
        ("gutenberg:one", "by its number"),
        ("ftp://example.org/a.txt", "only http, https, file"),
        ("http://example.org/a.txt#sha256=12", "64 hexadecimal digits"),
        ("http://[example.org/a.txt", r"^http://\[example.org/a.txt is not an address: "),
    ],
)
def test_names_that_cannot_be(argument: str, said: str) -> None:
    with pytest.raises(CorpusError, match=said):
        parse(argument)


def test_a_hash_in_the_address(site: Site) -> None:
    assert read_all([site.url(f"/text.txt#sha256={SHA}")], CorpusConfig()) == TEXT.decode()
    with pytest.raises(CorpusError, match="hash"):
        read_all([site.url(f"/text.txt#sha256={'0' * 64}")], CorpusConfig())


def test_two_hashes_must_be_equal() -> None:
    address = f"http://example.org/a.txt#sha256={SHA}"
    assert parse(address, SHA.upper()) == parse(address)
    with pytest.raises(CorpusError, match="--sha256 and the #sha256= of the address differ"):
        parse(address, "0" * 64)


def test_near_misses_are_named() -> None:
    with pytest.raises(CorpusError, match="did you mean shakespeare"):
        read_all(["shakespear"], CorpusConfig())
