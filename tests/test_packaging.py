"""What is built holds what ships and nothing else, works alone, and declares what it imports."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tarfile
from importlib.metadata import packages_distributions
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import pytest

import chargen
from chargen.text import datasets

hatchling = pytest.importorskip(
    "hatchling.build", reason="needs hatchling, which chargen[dev] brings"
)

ROOT = Path(__file__).parents[1]
BY_HAND = {"atheris", "gensim"}  # not for every Python: the scripts that need them say so
TYPES = {"typing_extensions"}  # type checkers bring it; nothing imports it at run time


def built(project: Path, kind: str, into: Path) -> Path:
    """A wheel or a source distribution of `project`."""
    build = {"wheel": hatchling.build_wheel, "sdist": hatchling.build_sdist}[kind]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        name: str = build(str(into))
    return into / name


def contents(wheel: Path) -> dict[str, bytes]:
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source distribution, unpacked."""
    made = built(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))
    folder = tmp_path_factory.mktemp("source")
    with tarfile.open(made) as archive:
        archive.extractall(folder)
    return folder / f"chargen-{chargen.__version__}"


def test_all_that_ships_is_in_the_wheel_and_nothing_else(wheel: Path) -> None:
    ignored = (ROOT / ".gitignore").read_text("utf-8").splitlines()
    tracked = {PurePosixPath(line[2:]) for line in ignored if line.startswith("!/")}
    models = {path.name for path in tracked if path.parts[0] == "checkpoints"} - {"README.md"}
    texts = {path.name for path in tracked if path.parts[0] == "corpora"} - {"README.md"}
    expected = {f"texts/{name}" for name in texts} | {
        f"models/{name}/{path.relative_to(ROOT / 'checkpoints' / name).as_posix()}"
        for name in models
        for path in (ROOT / "checkpoints" / name).rglob("*")
        if path.is_file()
    }
    found = {
        name.removeprefix("chargen/")
        for name in contents(wheel)
        if name.startswith(("chargen/models/", "chargen/texts/"))
    }
    assert found == expected
    assert {f"models/{name}/MODEL_CARD.md" for name in models} <= found
    for dataset in datasets.CATALOGUE.values():
        if dataset.unpack == "shipped":
            assert {f"texts/{name}" for name in dataset.parts.values()} <= found, dataset.name


def test_the_source_distribution_makes_the_same_wheel_whatever_a_user_keeps_in_it(
    wheel: Path, source: Path, tmp_path: Path
) -> None:
    (source / "corpora" / "diary.txt").write_text("private", "utf-8")
    (source / "checkpoints" / "diary").mkdir()
    (source / "checkpoints" / "diary" / "MODEL_CARD.md").write_text("private", "utf-8")
    assert contents(built(source, "wheel", tmp_path)) == contents(wheel)


def test_nothing_of_a_user_is_in_the_source_distribution(source: Path, tmp_path: Path) -> None:
    private = ("corpora/secret.txt", "checkpoints/secret/MODEL_CARD.md", "secret.txt")
    for name in private:
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text("private", "utf-8")
    with tarfile.open(built(source, "sdist", tmp_path)) as archive:
        assert not [name for name in archive.getnames() if "secret" in name]


ALONE = """
import json, sys
from chargen.cli.main import main

for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as ended:
        assert not ended.code, arguments
"""


def test_the_wheel_works_alone(wheel: Path, tmp_path: Path) -> None:
    with ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    (tmp_path / "elsewhere").mkdir()
    sizes = ["--steps", "30", "--hidden-size", "8", "--batch-size", "4", "--precision", "float32"]
    commands = [
        ["--version"],
        ["sentiment", "predict", "sentiment", "A quiet, wonderful film."],
        ["export", "reviews", "--format", "html", "--output", "page.html"],
        ["train", "essays", *sizes, "--quiet", "--out", "run"],
    ]
    # In one process, which imports torch once.
    done = subprocess.run(
        [sys.executable, "-c", ALONE, json.dumps(commands)],
        cwd=tmp_path / "elsewhere",
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    version, verdict, *_ = done.stdout.splitlines()
    assert version == f"chargen, version {chargen.__version__}"
    assert verdict.startswith("pos")
    assert (tmp_path / "elsewhere" / "page.html").is_file()
    assert (tmp_path / "elsewhere" / "run" / "manifest.json").is_file()


def test_every_package_that_is_imported_is_declared(wheel: Path) -> None:
    (metadata,) = (text for name, text in contents(wheel).items() if name.endswith("/METADATA"))
    lines = re.findall(r"^Requires-Dist: ([\w.-]+)", metadata.decode("utf-8"), re.M)
    declared = {_normal(name) for name in lines}
    known = packages_distributions()
    standard = {*sys.stdlib_module_names, "compression", "tomllib"}  # of the newest Python too
    undeclared = {}
    benchmarks = tuple((ROOT / "benchmarks").glob("*.py"))  # a test imports them
    for room in ("chargen", "benchmarks", "docs", "examples", "tests", "tools"):
        for path in (ROOT / room).rglob("*.py"):
            beside = {one.stem for one in (*path.parent.glob("*.py"), *benchmarks)}
            for name in (
                _imported(path) - standard - beside - BY_HAND - TYPES - {"chargen", "tests"}
            ):
                if not {_normal(one) for one in known.get(name, [name])} & declared:
                    undeclared[str(path.relative_to(ROOT))] = name
    assert undeclared == {}


def _imported(path: Path) -> set[str]:
    """The top-level names of the modules that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_only_type_checkers_need_is_not_imported() -> None:
    for path in (ROOT / "chargen").rglob("*.py"):
        text = path.read_text("utf-8")
        for name in TYPES & _imported(path):
            assert re.findall(rf"^.*from {name}", text, re.M) == [f"    from {name}"], path
            assert f"if TYPE_CHECKING:\n    from {name}" in text, path
