"""Imports run one way, and the command line waits for no torch: read from the source with `ast`."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ROWS = (
    {"errors", "keywords"},
    {"options", "storage", "runtime"},
    {"text"},
    {"lm"},
    {"language_model", "sampling"},
    {"compression", "training"},
    {"sentiment"},
    {"plotting", "sklearn", "verification"},
    {"interchange"},
    {"cli", "web"},
    {"__main__"},
)
"""What stands in a row imports what stands in it or before it."""

CLOSED: dict[str, set[str]] = {
    "errors": set(),
    "keywords": set(),
    "options": {"errors"},
    "storage": {"errors", "runtime"},
    "runtime": {"errors", "options", "storage"},
}
"""Packages that import these and themselves alone. The root holds the version and lazy names."""

Graph = Mapping[str, Iterable[str]]


def sources() -> dict[str, Path]:
    """The files of the package by the names of their modules."""
    found = {}
    for path in sorted((ROOT / "chargen").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def statements(body: Iterable[ast.AST], deferred: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that run, without those for types; with `deferred`, those in functions too."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from statements(node.orelse, deferred)
        elif deferred or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from statements(ast.iter_child_nodes(node), deferred)


def imported(source: str, modules: Iterable[str], deferred: bool) -> set[str]:
    """Our modules that a source imports, and the first names of foreign packages."""
    found = set()
    for node in statements(ast.parse(source).body, deferred):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            assert not node.level, "imports are absolute"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in modules else str(node.module) for name in inner]
        found |= {name if name in modules else name.partition(".")[0] for name in names}
    return found


MODULES = sources()
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in MODULES.items()}
ALL = {name: imported(text, MODULES, deferred=True) - {name} for name, text in TEXTS.items()}
AT_ONCE = {name: imported(text, MODULES, deferred=False) - {name} for name, text in TEXTS.items()}


def circle(graph: Graph) -> list[str]:
    """Some circle of a graph, its first name at its end again; empty where there is none."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for target in sorted(set(graph.get(name, ()))):
            if found := walk(target, [*path, name]):
                return found
        done.add(name)
        return []

    for start in sorted(graph):
        if found := walk(start, []):
            return found
    return []


def package(module: str) -> str:
    """The package right below the root, or the module there; "" is the root itself."""
    return module.partition(".")[2].partition(".")[0]


def edges() -> set[tuple[str, str]]:
    """Which package imports which, anywhere."""
    return {
        (package(name), package(target))
        for name, targets in ALL.items()
        for target in targets
        if target in MODULES and package(target) not in ("", package(name))
    }


def reached(start: str) -> dict[str, str]:
    """What importing a module imports, each with who asked for it; parents of modules too."""
    found = {start: ""}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        parents = [name.rpartition(".")[0]] if "." in name else []
        for target in sorted(AT_ONCE.get(name, set())) + parents:
            if target not in found:
                found[target] = name
                waiting.append(target)
    return found


def test_what_is_looked_for_is_found() -> None:
    assert circle({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) == ["a", "b", "c", "a"]
    assert circle({"a": ["b", "c"], "b": ["c"], "c": []}) == []
    source = (
        "from typing import TYPE_CHECKING\nimport torch.nn\n"
        "from chargen.text import files, config\n"
        "if TYPE_CHECKING:\n    import numpy\nelse:\n    import json\n"
        "try:\n    import zlib\nexcept ImportError:\n    pass\n"
        "class A:\n    def b(self):\n        from chargen.errors import brief\n"
    )
    at_once = {"typing", "torch", "chargen.text.files", "chargen.text.config", "json", "zlib"}
    assert imported(source, MODULES, deferred=False) == at_once
    assert imported(source, MODULES, deferred=True) == at_once | {"chargen.errors"}
    assert "torch" in reached("chargen.lm.model")
    assert ("cli", "text") in edges()


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circle(ALL) == []


def test_no_package_imports_itself_by_way_of_others() -> None:
    graph: dict[str, set[str]] = {}
    for source, target in edges():
        graph.setdefault(source, set()).add(target)
    assert circle(graph) == []


def test_packages_import_downwards() -> None:
    place = {name: number for number, row in enumerate(ROWS) for name in row}
    assert set(place) == {package(name) for name in MODULES} - {""}
    assert [pair for pair in sorted(edges()) if place[pair[0]] < place[pair[1]]] == []
    for name, allowed in CLOSED.items():
        assert {target for source, target in edges() if source == name} <= allowed


def test_a_vocabulary_reads_no_files() -> None:
    ours = {name for name in reached("chargen.text.vocabulary") if name.startswith("chargen.")}
    assert ours == {
        *("chargen.errors", "chargen.text"),
        *("chargen.text.symbols", "chargen.text.vocabulary"),
    }


LIGHT = [
    name
    for name in MODULES
    if package(name) in ("cli", "options", "errors", "") or name.endswith(".config")
]


@pytest.mark.parametrize("name", LIGHT)
def test_options_and_help_wait_for_no_torch(name: str) -> None:
    found = reached(name)
    way = ["torch"]
    while found.get(way[-1]):
        way.append(found[way[-1]])
    assert "torch" not in found, " <- ".join(way)


def test_the_help_waits_for_nothing_that_reads_files() -> None:
    needless = {"numpy", "platformdirs", "ctypes", "tempfile", "csv", "chargen.text.files"}
    assert needless & set(reached("chargen.cli.main")) == set()
