"""Training on two ranks, which torchrun launches: on one machine, and as two nodes.

Where what torchrun does itself is not asked, the ranks are started with the variables that it sets.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch.distributed

import chargen as library
from tests.processes import Process, start

from .conftest import SMALL, Command
from .test_resume import saved_step, tensors, wait_for_step

needs_ranks = pytest.mark.skipif(
    not torch.distributed.is_available() or not Path("/proc/self/stat").exists(),
    reason="needs torch.distributed with gloo, and /proc to find the ranks",
)

OPTIONS = ("--steps", "60", "--checkpoint-every", "4", "--eval-every", "30", "--dropout", "0")
ALL_OPTIONS = (*OPTIONS, *SMALL)


def torchrun(
    launch: tuple[str, ...], *arguments: object, program: tuple[str, ...] = ("-m", "chargen")
) -> subprocess.Popen[bytes]:
    module = [sys.executable, "-m", "torch.distributed.run", *launch, *program, "train"]
    return subprocess.Popen(
        [*module, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Found or not, a machine's name must not decide whether loopback works.
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
    )


def two_ranks(*arguments: object, **options: tuple[str, ...]) -> subprocess.Popen[bytes]:
    launch = ("--nproc-per-node", "2", "--master-port", str(free_port()))
    return torchrun(launch, *arguments, **options)


def two_nodes(*arguments: object) -> list[subprocess.Popen[bytes]]:
    launch = ("--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d")
    launch += ("--rdzv-id", "fox", "--rdzv-endpoint", f"localhost:{free_port()}")
    return [torchrun(launch, *arguments) for _ in range(2)]


def without_launcher(*arguments: object) -> list[Process]:
    """Two ranks as torchrun starts them on two nodes, where each is the first."""
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    variables |= {"LOCAL_RANK": "0", "GLOO_SOCKET_IFNAME": "lo"}
    return [start("train", *arguments, RANK=number, **variables) for number in "01"]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def process_of_rank(launcher: int, rank: int) -> int:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == launcher and f"\0RANK={rank}\0" in (folder / "environ").read_text():
                return int(folder.name)
        except OSError:  # it has just ended
            continue
    raise AssertionError("no such rank")


def ended(process: Process) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def losses(directory: Path) -> list[float]:
    rows = map(json.loads, (directory / "metrics.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]


def largest_difference(first: list[float], second: list[float]) -> float:
    return max(abs(a - b) for a, b in zip(first, second, strict=True))


@pytest.fixture(scope="module")
def alone(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    options = {"steps": 60, "eval_every": 30, "dropout": 0.0, "precision": "float32"}
    library.train(corpus, out, hidden_size=32, batch_size=4, window=32, **options)
    return out


def finished(processes: Sequence[Process], out: Path) -> None:
    """Wait for the end of a run, which only one process tells of."""
    done = [ended(process) for process in processes]
    assert {code for code, _, _ in done} == {0}, done
    (told,) = (text for _, text, _ in done if text)
    assert told.count("saved to") == 1
    assert sum("validation" in err for _, _, err in done) == 1
    assert {path.name for path in out.parent.iterdir()} == {"run"}


def same_run(one: Path, other: Path) -> None:
    """Assert that the curves are one."""
    assert len(losses(one)) == 6
    assert largest_difference(losses(one), losses(other)) < 1e-5
    results = [json.loads((d / "config.json").read_text())["results"] for d in (one, other)]
    assert results[0]["characters_read"] == results[1]["characters_read"]


@pytest.fixture(scope="module")
def on_two_nodes(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same on two ranks, each the first of its node."""
    out = tmp_path_factory.mktemp("nodes") / "run"
    finished(without_launcher(corpus, "--out", out, *ALL_OPTIONS), out)
    return out


@needs_ranks
def test_two_nodes_have_the_curve_of_one_process(alone: Path, on_two_nodes: Path) -> None:
    same_run(alone, on_two_nodes)
    assert library.load(on_two_nodes).generate("the", max_chars=20, seed=1)


@needs_ranks
def test_torchrun_launches_the_ranks_of_one_node(alone: Path, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "run"
    finished([two_ranks(corpus, "--out", out, *ALL_OPTIONS)], out)
    same_run(alone, out)


@needs_ranks
@pytest.mark.slow
def test_torchrun_joins_two_nodes(alone: Path, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "run"
    finished(two_nodes(corpus, "--out", out, *ALL_OPTIONS), out)
    same_run(alone, out)


@pytest.fixture(scope="module")
def killed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str, str]:
    """A run of two ranks, one of which was killed: its folder, code and what it said."""
    out = tmp_path_factory.mktemp("killed") / "run"
    first, second = without_launcher(corpus, "--out", out, *ALL_OPTIONS)
    wait_for_step(out, 8, first)
    second.kill()
    assert ended(second) == (-signal.SIGKILL, "", "")
    return out, *ended(first)


def what_is_kept(out: Path) -> str:
    return (
        f"chargen: rank 1 stopped answering; the last good checkpoint, step {saved_step(out)}, is "
        f"kept in {out}: continue with chargen train --resume {out}"
    )


@needs_ranks
def test_a_killed_rank_ends_the_run_with_its_name(killed: tuple[Path, int, str, str]) -> None:
    out, code, told, err = killed
    assert (code, told) == (1, "")
    progress, last = err.splitlines()[:-1], err.splitlines()[-1]
    assert last == what_is_kept(out)
    assert not any(line.startswith(("chargen: ", "Traceback")) for line in progress)
    assert {path.name for path in out.parent.iterdir()} == {"run"}


@needs_ranks
@pytest.mark.slow
def test_torchrun_ends_with_the_name_of_a_killed_rank(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "run"
    process = two_ranks(corpus, "--out", out, *ALL_OPTIONS)
    wait_for_step(out, 8, process)
    os.kill(process_of_rank(process.pid, 1), signal.SIGKILL)
    code, told, err = ended(process)
    assert (code, told) == (1, "")
    assert ours(err) == [what_is_kept(out)]
    assert {path.name for path in out.parent.iterdir()} == {"run"}


@needs_ranks
def test_one_process_goes_on_for_two(
    killed: tuple[Path, int, str, str], alone: Path, chargen: Command, tmp_path: Path
) -> None:
    out = shutil.copytree(killed[0], tmp_path / "run")
    result = chargen("train", "--resume", out)
    assert result.code == 0
    assert "the run had 2 ranks and continues with one process" in result.err
    assert largest_difference(losses(out), losses(alone)) < 1e-5


@needs_ranks
@pytest.mark.slow
def test_two_ranks_go_on_bit_for_bit(
    killed: tuple[Path, int, str, str], on_two_nodes: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(killed[0], tmp_path / "run")
    code, told, err = ended(two_ranks("--resume", out))
    assert code == 0, err
    assert "continues with" not in err
    assert told.count("saved to") == 1
    assert tensors(out) == tensors(on_two_nodes)


@needs_ranks
@pytest.mark.slow
def test_a_signal_to_the_launcher_finishes_the_step_and_saves(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = two_ranks(corpus, "--out", out, *ALL_OPTIONS)
    wait_for_step(out, 8, process)
    process.send_signal(signal.SIGTERM)
    _, told, err = ended(process)
    assert told == ""
    assert err.count(f"stopped at step {saved_step(out)}; continue with: chargen train") == 1


# ---------------------------------------------------------------- what goes wrong on one rank


def ours(err: str) -> list[str]:
    """What chargen says, without torchrun's own lines."""
    assert "chargen/" not in err.partition("Traceback")[2]
    return [line for line in err.splitlines() if line.startswith("chargen: ")]


@needs_ranks
@pytest.mark.slow
def test_a_checkpoint_that_lacks_a_file_is_told_once(alone: Path, tmp_path: Path) -> None:
    for name in ("training/state.json", "model.safetensors"):
        out = shutil.copytree(alone, tmp_path / name.replace("/", "-"))
        (out / name).unlink()
        code, told, err = ended(two_ranks("--resume", out, "--steps", "70"))
        assert code == 1
        assert told == ""
        (line,) = ours(err)
        assert name in line


FULL_ON_RANK_0 = """
import errno, os, sys
from pathlib import Path
from chargen.cli.main import main

out, fsync = Path(sys.argv[-1]), os.fsync

def full(descriptor):
    path = os.readlink(f"/proc/self/fd/{descriptor}")
    if ".run.writing" in path and out.exists():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    fsync(descriptor)

if os.environ["RANK"] == "0":
    os.fsync = full
main()
"""


@needs_ranks
@pytest.mark.slow
def test_a_disk_that_is_full_on_rank_0_is_told_once(corpus: Path, tmp_path: Path) -> None:
    script, out = tmp_path / "full.py", tmp_path / "out" / "run"
    script.write_text(FULL_ON_RANK_0)
    process = two_ranks(corpus, *ALL_OPTIONS, "--out", out, program=(str(script),))
    code, told, err = ended(process)
    assert code == 1
    assert told == ""
    (line,) = ours(err)
    assert "cannot write the checkpoint" in line
    assert "No space left" in line
    assert saved_step(out) == 4
    assert [path.name for path in out.parent.iterdir()] == ["run"]


@needs_ranks
@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_a_rank_that_hangs_ends_the_run_with_its_name(
    number: int, corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out" / "run"
    process = two_ranks(corpus, "--out", out, *ALL_OPTIONS, "--steps", "100000")
    wait_for_step(out, 8, process)
    os.kill(process_of_rank(process.pid, number), signal.SIGSTOP)
    code, told, err = ended(process)  # torchrun needs half a minute to kill what stands
    assert code == 1
    assert told == ""
    (line,) = ours(err)
    assert line.startswith(f"chargen: rank {number} stopped answering; the last good checkpoint")
    assert f"--resume {out}" in line
    assert library.load(out)


# ---------------------------------------------------------------- what every rank says or not


@pytest.fixture(params=[0, 1])
def rank(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """As torchrun starts a process; nobody is there to talk to."""
    number: int = request.param
    monkeypatch.setenv("RANK", str(number))
    monkeypatch.setenv("WORLD_SIZE", "2")
    return number


@pytest.mark.parametrize("command", ["sentiment train", "count"])
def test_what_one_process_does(
    command: str, rank: int, chargen: Command, trained: Path, tmp_path: Path
) -> None:
    data, out = tmp_path / "data.csv", tmp_path / "out"
    data.write_text("text,label\nfine,pos\n")
    if command == "count":
        result = chargen("count", trained, data, "--out", out)
    else:
        result = chargen("sentiment", "train", data, "--encoder", trained, "--out", out)
    assert result.out == ""
    if rank == 0:
        assert result.code == 2
        assert "one process: start it without torchrun" in result.err
    else:  # torchrun would end rank 0 before it has told
        assert result.code == 0
        assert result.err == ""


def test_a_wrong_option_is_told_once(rank: int, chargen: Command) -> None:
    result = chargen("train", "x.txt", "--stepps", 3)
    assert result.code == (2 if rank == 0 else 0)
    assert ("--stepps" in result.err) == (rank == 0)


def test_ranks_that_do_not_meet(
    rank: int, chargen: Command, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    result = chargen("train", corpus, "--out", tmp_path / "m", *ALL_OPTIONS)
    assert result.code == 1
    assert "the ranks did not find each other" in result.err
    assert not (tmp_path / "m").exists()
