"""The layout is the architecture: rooms import only from rooms below them, without a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import somlib

ROOT = Path(somlib.__file__).parent
FLOORS = ["spaces", "search", "data", "training", "models", "evaluation", "companion"]
"""The rooms, from the lowest. The modules of GROUND are below all of them."""
GROUND = {"arrays", "files", "checks", "hashing", "progress"}


def dotted(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {dotted(path): path for path in ROOT.rglob("*.py") if path.stem != "__main__"}


def imports(name):
    """Return the modules of somlib that a module imports, at its top or inside a function."""
    tree = ast.parse(SOURCES[name].read_text(encoding="utf-8"))
    return imported(ast.walk(tree)) - {name}


def imported(nodes):
    found = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("somlib"):
            inside = node.module.removeprefix("somlib").removeprefix(".")
            for alias in node.names:
                longer = f"{inside}.{alias.name}" if inside else alias.name
                found.add(longer if longer in SOURCES else inside)
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("somlib.") for a in node.names if "somlib." in a.name}
    return found - {""}


def floor(name):
    room = name.split(".")[0]
    return -1 if room in GROUND else FLOORS.index(room)


def test_there_are_seven_packages():
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert rooms == set(FLOORS)
    assert {p.stem for p in ROOT.glob("*.py")} == GROUND | {"__init__", "__main__"}


@pytest.mark.parametrize("name", sorted(SOURCES.keys() - {""}))
def test_no_package_imports_a_higher_one(name):
    higher = {other for other in imports(name) if floor(other) > floor(name)}
    assert not higher


def test_only_the_search_and_training_switch_threads_and_precision():
    users = {name for name in SOURCES if "search.products" in imports(name)}
    assert {name.split(".")[0] for name in users} <= {"search", "training", "models"}


def test_no_module_imports_itself_by_way_of_others():
    def at_import(name):  # not what a function imports when called, or a type checker reads
        tree = ast.parse(SOURCES[name].read_text(encoding="utf-8"))
        return imported(node for node in tree.body if isinstance(node, ast.ImportFrom)) - {name}

    TopologicalSorter({name: at_import(name) for name in SOURCES}).prepare()
