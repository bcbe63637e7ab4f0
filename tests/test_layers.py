"""The import layers of docs/architecture.md, checked on the syntax trees."""

import ast
import collections
from pathlib import Path

import pytest

import keras_kd

PACKAGE = Path(keras_kd.__file__).parent
LAYERS = {
    "errors": 0,
    "files": 0,
    "interruption": 0,
    "locks": 0,
    "quantities": 0,
    "serialization": 0,
    "svg": 0,
    "tables": 0,
    "untracked": 0,
    "hyperparameters": 1,
    "adversaries": 1,
    "keras_private": 1,
    "litert": 1,
    "models": 1,
    "progress": 1,
    "schedules": 1,
    "tasks": 1,
    "data": 2,
    "features": 2,
    "model_files": 2,
    "surgery": 3,
    "compression": 4,
    "losses": 4,
    "teachers": 4,
    "transfer": 4,
    "curricula": 5,
    "diagnosis": 5,
    "distillers": 5,
    "export": 5,
    "evaluation": 6,
    "synthesis": 6,
    "callbacks": 7,
    "regimes": 7,
    "chain": 8,
    "recipes": 9,
    "tuning": 9,
    "cli": 10,
}
# Within layers 0 and 1: errors < serialization < schedules < hyperparameters.
CONFINED = {
    "tensorflow": ("distillers/_tensorflow.py", "data/", "export/", "evaluation/runners.py", "compression/tfmot/"),
    "ai_edge_litert": ("litert/",),
    "ai_edge_quantizer": ("litert/",),
    "jax": ("distillers/_jax.py",),
    "tensorflow_datasets": ("data/",),
    "matplotlib": ("evaluation/plots/",),
    "tf_keras": ("compression/tfmot/",),
    "tensorflow_model_optimization": ("compression/tfmot/",),
}
HEAVY = (
    "tensorflow_datasets",
    "matplotlib",
    "sklearn",
    "typer",
    "rich",
    "pydantic",
    "jinja2",
    "ai_edge_litert",
    "ai_edge_quantizer",
)
STEPS = ("distillers/_tensorflow.py", "distillers/_jax.py")  # each is imported on its own backend only

FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def imports(path):
    """Yields (module, whether it is at the top level) for every import, including those in functions."""
    tree = ast.parse((PACKAGE / path).read_text())
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module, id(node) in top
            yield from ((f"{node.module}.{alias.name}", id(node) in top) for alias in node.names)


def area(module):
    return module.split(".")[1] if module.startswith("keras_kd.") else None


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_module_imports_only_from_lower_layers_or_its_own_area(path):
    own = path.parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for module, _ in imports(path):
        other = area(module)
        if other is None or other not in LAYERS or other == own:
            continue
        same_level_root = {own, other} <= {"errors", "files", "locks", "serialization", "schedules", "hyperparameters"}
        assert LAYERS[other] < LAYERS[own] or same_level_root, f"{path} (layer {LAYERS[own]}) imports {module}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_confined_packages_stay_where_they_belong(path):
    for module, _ in imports(path):
        allowed = CONFINED.get(module.split(".")[0])
        assert allowed is None or path.as_posix().startswith(allowed), f"{path} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_heavy_packages_load_on_first_use(path):
    """Recipes and the command line are only loaded when used; all other modules stay light."""
    if path.parts[0] in ("recipes", "cli") or path.as_posix() in STEPS:
        return
    for module, is_top in imports(path):
        assert not (is_top and module.split(".")[0] in (*HEAVY, "tensorflow", "jax")) or _is_type_only(path, module)


def _is_type_only(path, module):
    """Whether the file is a separate script, run in a child process."""
    return path.name == "_convert.py"


def modules():
    """The file of each module of the package, by dotted name."""
    names = {(PACKAGE.name, *path.with_suffix("").parts): path for path in FILES}
    return {".".join(name[:-1] if name[-1] == "__init__" else name): path for name, path in names.items()}


def own_imports(path, known):
    """The modules of the package that a file imports; `from keras_kd.data import splits` is `keras_kd.data.splits`."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & known.keys() or {node.module}
    return found & known.keys()


def circles(graph):
    """The groups of nodes that can all reach each other."""
    reached = {node: set() for node in graph}
    for node in graph:
        waiting = list(graph[node])
        while waiting:
            other = waiting.pop()
            if other not in reached[node]:
                reached[node].add(other)
                waiting.extend(graph[other])
    return sorted({tuple(sorted({node} | {n for n in reached[node] if node in reached[n]})) for node in graph}, key=len)


def test_no_two_files_import_each_other():
    """Neither inside functions nor indirectly."""
    known = modules()
    found = circles({name: own_imports(path, known) for name, path in known.items()})
    assert [circle for circle in found if len(circle) > 1] == []


def test_import_cycles_are_detected():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}
    assert circles(graph)[-1] == ("a", "b", "c")


def test_every_area_has_a_layer():
    areas = {path.parts[0].removesuffix(".py") for path in FILES} - {"__init__"}
    assert areas <= set(LAYERS)


def test_two_folder_levels_below_the_package():
    assert all(len(path.parts) <= 3 for path in FILES)


def test_no_folder_has_too_many_files():
    """Except `losses/`, where each method has a file."""
    sizes = collections.Counter(path.parent.as_posix() for path in FILES)
    assert {folder: size for folder, size in sizes.items() if size > 15 and folder != "losses"} == {}
