"""A checkpoint is read whole and as it was written, or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

import chargen
from chargen.errors import ChargenError, CheckpointError, ConfigError, brief
from chargen.storage import checkpoint, directories, outputs
from chargen.storage.checkpoint import FORMAT_VERSION, MANIFEST, METRICS, Checkpoint, load, save
from tests.processes import in_process

posix = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")


def names(path: Path) -> list[str]:
    """What lies in a folder, hidden things too."""
    return sorted(entry.name for entry in path.iterdir())


def make(number: int = 1) -> Checkpoint:
    return Checkpoint(
        "language-model",
        documents={"config": {"number": number}, "training/state": {"step": number}},
        tensors={
            "model": {"weight": torch.full((3, 2), float(number)), "step": torch.tensor(number)},
            "training/optimizer": {"mean": torch.arange(number + 4)},
        },
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(tmp_path / "run", make(), metrics=['{"step": 1}'])
    return tmp_path / "run"


def refuse(path: Path, *words: str, kind: str | None = None, training: bool = True) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(path, kind, training=training)
    message = str(caught.value)
    for word in (path.name, *words):
        assert word in message
    assert caught.value.exit_code == 1
    return message


def edit_manifest(path: Path, **changes: Any) -> None:
    manifest = json.loads((path / MANIFEST).read_text())
    manifest.update(changes)
    (path / MANIFEST).write_text(json.dumps(manifest))


def add_file(path: Path, name: str, data: bytes = b"{}") -> None:
    """Put a file into the manifest, with a hash that is right, without writing it."""
    files = json.loads((path / MANIFEST).read_text())["files"]
    files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit_manifest(path, files=files)


# ---------------------------------------------------------------- round trip


def test_round_trip(saved: Path) -> None:
    stored = load(saved, "language-model", training=True)
    wanted = make()
    assert stored.kind == wanted.kind
    assert stored.path == saved
    assert stored.documents == wanted.documents
    assert stored.tensors.keys() == wanted.tensors.keys()
    for name, tensors in wanted.tensors.items():
        assert stored.tensors[name].keys() == tensors.keys()
        for key, value in tensors.items():
            assert torch.equal(stored.tensors[name][key], value)
            assert stored.tensors[name][key].dtype == value.dtype


def test_what_only_resuming_needs_is_left_out(saved: Path) -> None:
    stored = load(str(saved))
    assert set(stored.documents) == {"config"}
    assert set(stored.tensors) == {"model"}
    shutil.rmtree(saved / "training")
    load(saved)
    refuse(saved, "training")


def test_the_manifest_states_size_and_hash_of_every_file(saved: Path) -> None:
    manifest = json.loads((saved / MANIFEST).read_text())
    assert manifest["format_version"] == FORMAT_VERSION
    written = {p.relative_to(saved).as_posix() for p in saved.rglob("*") if p.is_file()} - {
        MANIFEST,
        METRICS,
    }
    assert set(manifest["files"]) == written
    for name in written:
        data = (saved / name).read_bytes()
        entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        assert manifest["files"][name] == entry
    assert (saved / METRICS).read_text() == '{"step": 1}\n'
    sizes = {name: entry["bytes"] for name, entry in manifest["files"].items()}
    assert checkpoint.file_sizes(saved) == sizes
    assert list(sizes) == sorted(sizes)
    assert (saved / "config.json").read_text() == '{\n "number": 1\n}\n'


def test_what_is_kept_for_resuming_lies_in_a_folder_of_its_own(saved: Path) -> None:
    stored = load(saved)
    stored.documents["vocabulary"] = {"size": 3}
    stored.add_training_state({"step": 7}, {"optimizer": {"mean": torch.ones(2)}, "average": {}})
    save(saved, stored)
    assert load(saved).documents == {"config": {"number": 1}, "vocabulary": {"size": 3}}
    again = load(saved, training=True)
    assert again.document("training/state") == {"step": 7}
    assert again.tensors_in("training").keys() == {"optimizer", "average"}
    assert again.tensors_in("training")["optimizer"]["mean"].tolist() == [1, 1]
    assert again.tensors.keys() == {"model", "training/optimizer", "training/average"}


def test_its_kind_by_its_own_word(saved: Path) -> None:
    assert checkpoint.kind_of(saved) == "language-model"
    assert checkpoint.kind_of(saved.parent) is None
    edit_manifest(saved, kind=3)
    assert checkpoint.kind_of(saved) is None


def test_the_log_up_to_a_step(tmp_path: Path) -> None:
    rows = ['{"step": 1}', '{"step": 2, "text": "é"}', '{"step": 3}', "[2]", '{"loss": 1}', "3"]
    rows += ['{"step": null}', '{"step": 2}', '{"step": 1, "lo']
    save(tmp_path / "run", make(), metrics=rows)
    assert checkpoint.read_metrics(tmp_path / "run", 2) == [rows[0], rows[1], rows[-2]]
    (tmp_path / "run").rename(tmp_path / ".run.previous")  # as after a crash
    assert checkpoint.read_metrics(tmp_path / "run", 1) == rows[:1]
    assert checkpoint.read_metrics(tmp_path / "none", 2) == []


def test_a_damaged_log_loses_only_the_damaged_lines(saved: Path) -> None:
    rows = [b'{"step": 1}', b'\xff\xfe\x00{"step": 1}', b"[" * 200_000, b'{"step": 2}']
    (saved / METRICS).write_bytes(b"\n".join(rows))
    assert checkpoint.read_metrics(saved, 2) == ['{"step": 1}', '{"step": 2}']


@posix
def test_what_people_put_beside_it_stays(saved: Path) -> None:
    (saved / "MODEL_CARD.md").write_text("a card")
    (saved / "figures.json").write_text("{}")
    (saved / "notes" / "empty").mkdir(parents=True)
    (saved / "notes" / "model.safetensors").write_text("another")
    (saved / "notes" / "nowhere").symlink_to("nothing")
    (saved / "link.md").symlink_to("MODEL_CARD.md")
    os.mkfifo(saved / "pipe")
    os.mkfifo(saved / "notes" / "pipe")
    for number in (2, 3):
        stored = make(number)
        stored.documents["steering"] = {"of": number}
        save(saved, stored)
    save(saved, make(4))
    own = ["config.json", MANIFEST, "model.safetensors", "training"]
    assert names(saved) == sorted([*own, "MODEL_CARD.md", "figures.json", "link.md", "notes"])
    assert names(saved / "notes") == ["empty", "model.safetensors", "nowhere"]
    assert (saved / "MODEL_CARD.md").read_text() == (saved / "link.md").read_text() == "a card"
    assert (saved / "notes" / "model.safetensors").read_text() == "another"
    assert (saved / "notes" / "nowhere").readlink() == Path("nothing")


def test_a_file_that_has_the_name_of_a_new_one_gives_way(saved: Path) -> None:
    (saved / "steering.json").write_text("mine")
    (saved / MANIFEST).write_text("{")
    stored = make(2)
    stored.documents["steering"] = {"of": 2}
    save(saved, stored)
    assert load(saved, training=True).documents == stored.documents


def test_saved_again_it_is_replaced_as_a_whole(saved: Path) -> None:
    (saved / "stray.json").write_text("{}")
    newer = make(2)
    del newer.documents["training/state"]
    save(saved, newer)
    assert load(saved).documents == {"config": {"number": 2}}
    assert "training/state" not in load(saved, training=True).documents
    assert not (saved / METRICS).exists()
    assert names(saved.parent) == ["run"]


def test_folders_above_are_made(tmp_path: Path) -> None:
    save(tmp_path / "a" / "b" / "run", make())
    assert load(tmp_path / "a" / "b" / "run").kind == "language-model"


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("run"), make(3))
    assert load("run").documents["config"] == {"number": 3}
    assert names(Path()) == ["run"]


def test_views_and_gradients_are_stored_as_plain_tensors(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4).requires_grad_()
    save(
        tmp_path / "run", Checkpoint("x", tensors={"model": {"turned": whole.T, "part": whole[1:]}})
    )
    tensors = load(tmp_path / "run").tensors["model"]
    assert torch.equal(tensors["turned"], whole.T)
    assert torch.equal(tensors["part"], whole[1:])
    assert not tensors["part"].requires_grad


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    for parts, name in (
        ({"documents": {"config": ["x" * 100] * 90_000}}, "config.json"),
        ({"documents": {"config": ["[" * 1000] * 200}}, "config.json"),
        (
            {"tensors": {"model": {f"{'x' * 99}{i}": torch.zeros(1) for i in range(9000)}}},
            "model.safetensors",
        ),
    ):
        with pytest.raises(CheckpointError, match=f"{name} is larger than any such file"):
            save(tmp_path / "run", Checkpoint("x", **parts))
    with pytest.raises(ConfigError, match="90,000 names of corpora are too many .*: name a folder"):
        chargen.train(["x" * 100] * 90_000, tmp_path / "run")
    assert names(tmp_path) == []


def test_text_of_every_script_stays_readable(tmp_path: Path) -> None:
    save(tmp_path / "run", Checkpoint("x", documents={"config": {"text": "naïve ☃ 𝄞 \u2028"}}))
    assert load(tmp_path / "run").documents["config"] == {"text": "naïve ☃ 𝄞 \u2028"}
    assert "naïve ☃" in (tmp_path / "run" / "config.json").read_text(encoding="utf-8")


def test_names_of_files_that_are_no_text(tmp_path: Path) -> None:
    # What Python makes of a file name in another encoding, such as the corpus of a run.
    document = {"arguments": ["caf\udce9.txt"]}
    save(tmp_path / "run", Checkpoint("x", documents={"config": document}))
    assert load(tmp_path / "run").documents["config"] == document
    assert json.loads((tmp_path / "run" / "config.json").read_text("utf-8")) == document


@posix
def test_through_a_symbolic_link(tmp_path: Path) -> None:
    # A folder of checkpoints that lies on another disk.
    (tmp_path / "disk").mkdir()
    real, link = tmp_path / "disk" / "run", tmp_path / "link"
    save(real, make(1))
    link.symlink_to(real)
    for number in (2, 3):
        save(link, make(number))
        assert link.is_symlink()
        assert load(link).documents == load(real).documents == {"config": {"number": number}}
    assert names(tmp_path) == ["disk", "link"]
    assert names(tmp_path / "disk") == ["run"]


def test_exists(saved: Path) -> None:
    assert checkpoint.exists(saved)
    assert not checkpoint.exists(saved.parent)
    assert not checkpoint.exists(saved.parent / "other")
    (saved / "config.json").unlink()
    assert checkpoint.exists(saved)


def test_documents_must_be_objects() -> None:
    stored = Checkpoint("x", documents={"config": [], "other": {}})
    assert stored.document("other") == {}
    stored.path = Path("run")
    for name in ("config", "missing"):
        with pytest.raises(CheckpointError) as caught:
            stored.document(name)
        assert str(caught.value) == f"run: {name}.json is missing or not an object"


# ---------------------------------------------------------------- damage


FILES = [
    "config.json",
    "model.safetensors",
    "training/optimizer.safetensors",
    "training/state.json",
]


@pytest.mark.parametrize("name", FILES)
def test_truncated(saved: Path, name: str) -> None:
    data = (saved / name).read_bytes()
    for length in (0, 1, len(data) // 2, len(data) - 1):
        (saved / name).write_bytes(data[:length])
        refuse(saved, name, "truncated")
    (saved / name).write_bytes(data + b"x")
    refuse(saved, name, "changed")


@pytest.mark.parametrize("name", FILES)
def test_tampered(saved: Path, name: str) -> None:
    data = (saved / name).read_bytes()
    for place in (0, len(data) // 2, len(data) - 1):
        changed = bytearray(data)
        changed[place] ^= 1
        (saved / name).write_bytes(changed)
        refuse(saved, name, "SHA-256")


@pytest.mark.parametrize("name", FILES)
def test_missing_file(saved: Path, name: str) -> None:
    (saved / name).unlink()
    refuse(saved, name)


def test_missing_folder_and_what_is_none(tmp_path: Path) -> None:
    missing = tmp_path / "nothing"
    assert refuse(missing) == f"there is no checkpoint {missing}"
    (tmp_path / "file").write_text("text")
    refuse(tmp_path / "file", "directory")
    (tmp_path / "empty").mkdir()
    refuse(tmp_path / "empty", MANIFEST)


def test_newer_format(saved: Path) -> None:
    edit_manifest(saved, format_version=FORMAT_VERSION + 1)
    refuse(saved, f"format {FORMAT_VERSION + 1}", "update chargen")


@pytest.mark.parametrize("version", [0, -1, "1", None, 1.5, [], {}])
def test_no_format(saved: Path, version: Any) -> None:
    edit_manifest(saved, format_version=version)
    refuse(saved, f"{MANIFEST}: format_version is {brief(version)}")


def test_other_kind(saved: Path) -> None:
    assert load(saved, "language-model").kind == "language-model"
    refuse(saved, "language-model", "classifier", kind="classifier")


@pytest.mark.parametrize("kind", [None, 3, [], "two\nlines", "x" * 81])
def test_no_kind(saved: Path, kind: Any) -> None:
    edit_manifest(saved, kind=kind)
    refuse(saved, f"{MANIFEST}: kind is {brief(kind)}")


def test_a_long_kind_and_a_long_manifest(saved: Path) -> None:
    edit_manifest(saved, kind="x" * 80)
    text = (saved / MANIFEST).read_text()
    (saved / MANIFEST).write_text(text.ljust(1 << 20))
    assert load(saved).kind == "x" * 80
    # Of a longer one no more is read.
    (saved / MANIFEST).write_text(text[:-1].ljust(1 << 20) + "}")
    refuse(saved, MANIFEST, "is not JSON")


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"3", b"null", b"\xff\xfe\xff", b"[" * 100_000, b"{}", b"x" * (2 << 20)],
)
def test_a_manifest_that_is_none(saved: Path, data: bytes) -> None:
    (saved / MANIFEST).write_bytes(data)
    refuse(saved, MANIFEST)


@pytest.mark.parametrize("files", [None, [], 3, "text"])
def test_no_files(saved: Path, files: Any) -> None:
    edit_manifest(saved, files=files)
    message = refuse(saved, f"{MANIFEST}: files is missing")
    with pytest.raises(CheckpointError) as caught:
        checkpoint.file_sizes(saved)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "entry",
    [
        None,
        3,
        {},
        {"sha256": "0"},
        {"bytes": "3"},
        {"bytes": None},
        {"bytes": -5, "sha256": hashlib.sha256(b"").hexdigest()},
        {"bytes": 10**30, "sha256": ""},
        {"bytes": 3},
    ],
)
def test_impossible_entries(saved: Path, entry: Any) -> None:
    files = json.loads((saved / MANIFEST).read_text())["files"]
    edit_manifest(saved, files=files | {"config.json": entry})
    refuse(saved, "config.json")


def test_an_entry_without_a_size_is_named(saved: Path) -> None:
    edit_manifest(saved, files={"config.json": {}})
    message = f"{saved / MANIFEST}: the entry of config.json has no size"
    assert refuse(saved) == message
    with pytest.raises(CheckpointError) as caught:
        checkpoint.file_sizes(saved)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "name",
    [
        "../outside.json",
        "training/../../outside.json",
        "a/b/c.json",
        "/outside.json",
        "..\\outside.json",
        "a\\b.json",
        "C:\\outside.json",
        "",
        ".",
        "..",
        "config",
        "model.pt",
        "model.pkl",
        ".json",
        "a\0b.json",
        "\ud800.json",
        "x" * 5000 + ".json",
    ],
)
def test_names_that_lead_elsewhere(saved: Path, name: str) -> None:
    (saved.parent / "outside.json").write_text("{}")
    add_file(saved, name)
    refuse(saved)


def test_an_absolute_name(saved: Path) -> None:
    outside = saved.parent / "outside.json"
    outside.write_text("{}")
    add_file(saved, str(outside))
    refuse(saved, "not a valid name")


@posix
def test_symbolic_links(saved: Path) -> None:
    outside = saved.parent / "outside.json"
    shutil.move(saved / "config.json", outside)
    (saved / "config.json").symlink_to(outside)
    refuse(saved, "config.json", "symbolic link")


@posix
def test_a_folder_that_is_a_symbolic_link(saved: Path) -> None:
    outside = saved.parent / "outside"
    shutil.move(saved / "training", outside)
    (saved / "training").symlink_to(outside)
    refuse(saved, "symbolic link")


@posix
@pytest.mark.parametrize("name", ["config.json", MANIFEST])
def test_what_is_no_plain_file_does_not_hang(saved: Path, name: str) -> None:
    (saved / name).unlink()
    os.mkfifo(saved / name)

    def still_waiting(number: int, frame: object) -> None:
        pytest.fail("waits for somebody to write into the pipe")

    before = signal.signal(signal.SIGALRM, still_waiting)
    signal.alarm(10)
    try:
        refuse(saved, name)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_folder_in_the_place_of_a_file(saved: Path) -> None:
    (saved / "config.json").unlink()
    (saved / "config.json").mkdir()
    refuse(saved, "config.json")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("config.json", b"{"),
        ("config.json", b"\xff"),
        ("config.json", b"[" * 100_000),
        ("model.safetensors", b""),
        ("model.safetensors", b"text"),
        ("model.safetensors", b"\xff" * 64),
        ("model.safetensors", (2).to_bytes(8, "little") + b"{}x"),
        (
            "model.safetensors",
            (54).to_bytes(8, "little") + b'{"w":{"dtype":"F99","shape":[0],"data_offsets":[0,0]}}',
        ),
    ],
)
def test_right_hash_but_no_content(saved: Path, name: str, data: bytes) -> None:
    (saved / name).write_bytes(data)
    add_file(saved, name, data)
    refuse(saved, name)


@posix
def test_unreadable(saved: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (saved / "config.json").chmod(0)
    refuse(saved, "config.json", "cannot read")


# ---------------------------------------------------------------- failing while writing


class FullDisk:
    """`os.fsync` that finds the disk full from its n-th call on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.calls = 0
        self.after = after
        self.fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self)

    def __call__(self, descriptor: int) -> None:
        self.calls += 1
        if self.calls > self.after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.fsync(descriptor)


def count_syncs(path: Path) -> int:
    with pytest.MonkeyPatch.context() as patch:
        disk = FullDisk(patch, 10**6)
        save(path, make())
    shutil.rmtree(path)
    return disk.calls


def test_a_full_disk_leaves_the_old_one_and_nothing_else(saved: Path) -> None:
    calls = count_syncs(saved.parent / "other")
    assert calls >= len(FILES) + 1  # every file and the manifest
    for after in range(calls):
        with pytest.MonkeyPatch.context() as patch:
            FullDisk(patch, after)
            with pytest.raises(CheckpointError, match=r"cannot write .*run: No space left"):
                save(saved, make(2))
        # The very last call comes after the exchange: then the new one is there, whole.
        number = 2 if after == calls - 1 else 1
        assert load(saved, training=True).documents["config"] == {"number": number}
        assert names(saved.parent) == ["run"]


def test_a_full_disk_leaves_nothing_where_nothing_was(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        FullDisk(patch, 2)
        with pytest.raises(CheckpointError, match="No space left"):
            save(tmp_path / "run", make())
    assert names(tmp_path) == []


def test_a_document_that_is_no_json_leaves_the_old_one(saved: Path) -> None:
    broken = make(2)
    broken.documents["config"]["loss"] = float("nan")
    with pytest.raises(ValueError, match="not JSON compliant"):
        save(saved, broken)
    assert load(saved).documents["config"] == {"number": 1}
    assert names(saved.parent) == ["run"]


def test_leftovers_of_a_killed_writer_are_cleared(saved: Path) -> None:
    for role in ("writing", "previous"):
        (saved.parent / f".run.{role}").mkdir()
        (saved.parent / f".run.{role}" / "half.json").write_text("{")
    save(saved, make(2))
    assert load(saved).documents["config"] == {"number": 2}
    assert names(saved.parent) == ["run"]


def test_a_crash_between_two_renames_is_recovered_from(saved: Path) -> None:
    # Where the system cannot exchange two names.
    saved.rename(saved.parent / ".run.previous")
    assert checkpoint.exists(saved)
    assert load(saved, training=True).documents["config"] == {"number": 1}
    save(saved, make(2))
    assert load(saved).documents["config"] == {"number": 2}
    assert names(saved.parent) == ["run"]
    save(saved.parent / ".run.previous", make(3))  # one that a crash left does not count
    assert load(saved).documents["config"] == {"number": 2}


@posix
def test_read_only_folder(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    try:
        for attempt in (
            lambda: save(tmp_path / "run", make()),
            lambda: checkpoint.check_writable(tmp_path / "run"),
        ):
            with pytest.raises(CheckpointError, match="cannot write"):
                attempt()
    finally:
        tmp_path.chmod(0o700)


@posix
def test_a_folder_keeps_its_mode(saved: Path) -> None:
    for mode in (0o700, 0o750, 0o755):
        saved.chmod(mode)
        save(saved, make(2))
        assert saved.stat().st_mode & 0o777 == mode


@posix
def test_a_read_only_checkpoint_is_not_written_to(saved: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    saved.chmod(0o500)
    for attempt in (lambda: save(saved, make(2)), lambda: checkpoint.check_writable(saved)):
        with pytest.raises(CheckpointError, match=r"cannot write .*run: Permission denied"):
            attempt()
        assert names(saved.parent) == ["run"]
    saved.chmod(0o700)
    assert load(saved).documents["config"] == {"number": 1}


def test_a_file_above(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    run = tmp_path / "file" / "run"
    with pytest.raises(CheckpointError) as caught:
        save(run, make())
    assert str(caught.value) == f"cannot write the checkpoint {run}: File exists"
    with pytest.raises(CheckpointError) as caught:
        checkpoint.check_writable(run)
    assert str(caught.value) == f"cannot write to {run.parent}: File exists"
    assert (tmp_path / "file").read_text() == "text"


def test_a_file_in_its_place_is_not_destroyed(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("text")
    with pytest.raises(CheckpointError, match=r"cannot write the .*run: Not a directory"):
        save(tmp_path / "run", make())
    assert (tmp_path / "run").read_text() == "text"
    assert names(tmp_path) == ["run"]


@posix
@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("path", ["/", "/dev/null", "x" * 250, "x" * 300, "a\0b", "a\ud800"])
def test_a_path_that_cannot_be_a_checkpoint_is_refused_in_a_sentence(path: str) -> None:
    def claim() -> None:
        with outputs.locked_for_run(Path(path)):
            pytest.fail("nothing can be written there")

    stored = make()
    for attempt in (
        lambda: load(path),
        lambda: outputs.save_model(Path(path), stored, None, force=False),
        claim,
    ):
        with pytest.raises(ChargenError) as caught:
            attempt()
        assert len(str(caught.value)) > 20


def test_checking_leaves_nothing(tmp_path: Path) -> None:
    checkpoint.check_writable(tmp_path / "new" / "run")
    assert names(tmp_path / "new") == []
    (tmp_path / "new" / ".run.writing" / "half").mkdir(parents=True)  # of a killed run
    checkpoint.check_writable(tmp_path / "new" / "run")
    assert names(tmp_path / "new") == []


def test_a_folder_that_cannot_be_replaced_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointError, match="it is a mount point; name a folder in it"):
        checkpoint.check_writable(Path(tmp_path.anchor))
    (tmp_path / "run" / "notes").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "run" / "notes")
    for path in (Path(), Path(".."), tmp_path / "run"):
        with pytest.raises(CheckpointError, match="the working directory is in it; start from"):
            checkpoint.check_writable(path)
    checkpoint.check_writable(Path("another"))


@posix
def test_links_in_a_circle_are_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"cannot write .*run: Too many levels of symbolic"):
        checkpoint.check_writable(tmp_path / "run")


# ---------------------------------------------------------------- reading while it is written


@pytest.mark.parametrize("exchange", [True, False])
def test_a_reader_never_sees_half_of_one(
    exchange: bool, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(directories, "exchange", lambda *_: False)
    done = threading.Event()
    found: list[int] = []
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not done.is_set():
                stored = load(saved, training=True)
                number = stored.documents["config"]["number"]
                assert stored.documents["training/state"] == {"step": number}
                assert stored.tensors["model"]["step"].item() == number
                assert len(stored.tensors["training/optimizer"]["mean"]) == number + 4
                found.append(number)
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for number in range(2, 50):
            save(saved, make(number))
            if failures:
                break
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert not failures, failures[0]
    assert found
    assert load(saved).documents["config"] == {"number": 49}


def test_what_changed_while_it_was_read_is_read_again(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_a_whole_one(_: float) -> None:
        save(saved, make(2))

    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", write_a_whole_one)
        (saved / "config.json").unlink()
        assert load(saved).documents["config"] == {"number": 2}

    def write_another_half(_: float) -> None:
        edit_manifest(saved, number=time.perf_counter_ns())

    monkeypatch.setattr(time, "sleep", write_another_half)
    (saved / "config.json").unlink()
    with pytest.raises(CheckpointError) as caught:
        load(saved)
    assert str(caught.value) == f"{saved} changes faster than it can be read"


# ---------------------------------------------------------------- one writer


def hold(target: Path, held: Connection) -> None:
    with outputs.writing_lock(target):
        held.send("held")
        time.sleep(600)


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("cache")
    for variable in ("XDG_CACHE_HOME", "CHARGEN_CACHE_DIR", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(folder))


@posix
@pytest.mark.usefixtures("own_cache")
def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    target = tmp_path / "run"
    held, holds = multiprocessing.Pipe(duplex=False)
    holder = in_process(hold, target, holds)
    try:
        assert held.poll(60)
        with (
            pytest.raises(CheckpointError, match=r"another run is writing .*run.*--out"),
            outputs.writing_lock(target),
        ):
            pytest.fail("two writers")
        with outputs.writing_lock(tmp_path / "another"):
            pass  # only this folder is held
    finally:
        holder.kill()
        holder.join()
    with outputs.writing_lock(target):
        pass


@pytest.mark.usefixtures("own_cache")
def test_the_lock_is_released_whatever_happens(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), outputs.writing_lock(tmp_path / "run"):
        raise ZeroDivisionError
    with (
        outputs.writing_lock(tmp_path / "run"),
        pytest.raises(CheckpointError, match="another run"),
        outputs.writing_lock(tmp_path / "run"),
    ):
        pytest.fail("two writers")
    with outputs.writing_lock(tmp_path / "run"):
        pass


@pytest.mark.usefixtures("own_cache")
def test_a_folder_is_locked_before_it_is_looked_at(saved: Path) -> None:
    # Otherwise a run that ends in between would be replaced without --force.
    for force in (False, True):
        with (
            outputs.writing_lock(saved),
            pytest.raises(CheckpointError, match="another run is writing"),
            outputs.locked_for_run(saved, force),
        ):
            pytest.fail("two writers")


def test_a_cache_that_cannot_hold_the_lock_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("text")
    monkeypatch.setenv("CHARGEN_CACHE_DIR", str(tmp_path / "file"))
    with (
        pytest.raises(CheckpointError, match=r"cannot lock .*file.*; set CHARGEN_CACHE_DIR"),
        outputs.writing_lock(tmp_path / "run"),
    ):
        pytest.fail("no lock")


@posix
@pytest.mark.usefixtures("own_cache")
def test_two_names_of_one_folder_are_one_lock(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with (
        outputs.writing_lock(tmp_path / "run"),
        pytest.raises(CheckpointError, match="another run"),
        outputs.writing_lock(tmp_path / "link"),
    ):
        pytest.fail("two writers")


def test_locks_lie_in_the_cache_folder_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("CHARGEN_CACHE_DIR", str(tmp_path / "cache"))
    with outputs.writing_lock(tmp_path / "run"):
        pass
    assert any((tmp_path / "cache").rglob("*.lock"))
    assert not (tmp_path / "elsewhere").exists()
