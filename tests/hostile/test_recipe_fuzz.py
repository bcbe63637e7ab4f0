"""Thousands of mutated recipes: each is rejected with a readable message or is valid."""

import copy
import datetime
import math
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from keras_kd import recipes
from keras_kd.errors import RecipeError
from keras_kd.recipes.reading.names import check_names

DEFAULT = yaml.safe_load(recipes.default_text())
MAX_CPU_SECONDS = 60.0  # a bound against work without end, not a measurement
JARGON = ("pydantic", "Traceback", "validation error", "errors.", "dict[", "function-")

TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["", " ", "..", "/", "a\0b", "x" * 5000, "\ud800", "名前", "é", "[red]", "{x}", "%s", "a\nb"]),
    st.sampled_from(["none.keras", "own:model", ":", "npz:", "tfds:", "../../etc/passwd", "soft_targets", "cosine"]),
)
NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, -1, 1, 2**31, 2**63, 2**64, 10**30, 10**400, math.nan, math.inf, -math.inf, 1e-320, True]),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, st.just(datetime.date(2025, 1, 1)), st.binary(max_size=9))
JUNK = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(TEXTS, st.integers(), st.booleans(), st.none()), inner, max_size=4),
        st.fixed_dictionaries({"name": st.sampled_from(["cosine", "hint", "flip", "x", "weighted"])}),
    ),
    max_leaves=8,
)


def places(value, path=()):
    """Yields the path of every nested key and item."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


PLACES = sorted(places(DEFAULT), key=str)


def at(settings, path):
    for key in path:
        settings = settings[key]
    return settings


@st.composite
def broken(draw):
    """The default recipe with one to three changes."""
    recipe = copy.deepcopy(DEFAULT)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(PLACES))
        try:
            parent = at(recipe, path[:-1])
            parent[path[-1]]
        except (KeyError, IndexError, TypeError):  # removed by an earlier change
            continue
        change = draw(st.sampled_from(["replace", "replace", "delete", "add", "misspell", "nest"]))
        if change == "replace":
            parent[path[-1]] = draw(JUNK)
        elif change == "delete":
            del parent[path[-1]]
        elif change == "nest":
            parent[path[-1]] = draw(st.sampled_from([lambda x: [x], lambda x: {"name": x}, lambda x: {0: x}]))(
                parent[path[-1]]
            )
        elif isinstance(parent, dict):
            name = draw(TEXTS) if change == "add" else f"{path[-1]}{draw(st.sampled_from('sx_'))}"
            parent[name] = draw(JUNK) if change == "add" else parent.pop(path[-1])
    return recipe


def outcome(text, overrides=(), *, folder):
    """The recipe or the error message, within a bound on CPU time."""
    file = folder / "recipe.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    begin = time.process_time()
    try:
        recipe = recipes.load(file, overrides)
        check_names(recipe)
    except RecipeError as error:
        recipe, message = None, str(error)
    taken = time.process_time() - begin
    assert taken < MAX_CPU_SECONDS, f"{taken:.1f} s"
    if recipe is not None:
        assert recipes.Recipe.model_validate(recipe.model_dump()) == recipe
        return recipe, None
    assert message and len(message) < 20_000 and not any(word in message for word in JARGON)
    message.encode("utf-8")  # must be printable on a terminal
    for line in message.splitlines():
        assert line.isprintable() and len(line) > 10, line
    return None, message


@st.composite
def override(draw):
    """KEY=VALUE with an existing or slightly changed key."""
    path = draw(st.sampled_from([place for place in PLACES if all(isinstance(part, str) for part in place)]))
    key = ".".join(path)
    key = draw(st.sampled_from([key, key, f"{key}x", f"{key}.x", key.replace(".", ".."), f"x.{key}", f".{key}"]))
    texts = st.text(st.characters(codec="utf-8"), max_size=30)
    special = st.sampled_from(["[" * 3000, "*a", "&a [*a]", "!!int ''", "1:" * 3000, "{a: b", "0x" + "f" * 999, "\x00"])
    return f"{key}={draw(st.one_of(texts, special, SCALARS.map(repr), JUNK.map(repr)))}"


QUICK = settings(max_examples=300, deadline=None, derandomize=True, database=None)
LONG = settings(max_examples=3_400, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def check_a_broken_recipe(recipe, folder):
    """Checks that a rejected recipe gives one or more lines that begin with a key."""
    try:
        text = yaml.safe_dump(recipe, allow_unicode=True, sort_keys=False)
    except (yaml.YAMLError, ValueError):  # for numbers of 5000 digits
        assume(False)
    found, message = outcome(text, folder=folder)
    if found is None and "is not valid YAML" not in message:
        read = yaml.safe_load(text)  # YAML reads some characters as spaces
        known = {str(part) for path in (*PLACES, *places(read)) for part in path}
        known |= {"assistant 1", *(repr(part) for part in known), *recipes.Recipe.model_fields}
        for line in message.splitlines():
            if not line.startswith("And "):
                key = line.partition(": ")[0]
                assert any(key.startswith(name[:40]) for name in known if name), (key, line)


def check_overrides(overrides, folder):
    _, message = outcome(recipes.default_text(), overrides, folder=folder)
    if message is not None and "Invalid --set" not in message:
        first = {part for text in overrides for part in text.partition("=")[0].split(".")}
        assert any(part in message for part in first if part) or "''" in message, message


def check_text(text, folder):
    outcome(text, folder=folder)


SNIPPETS = st.lists(
    st.sampled_from(
        "{ } [ ] , : - ? & * ! | > % @ ` # ' \" \n \t &a *a !!int !!float !!binary !!set !!omap !!python/name:os <<: "
        "--- ... seed data teacher student model epochs ~ .nan .inf 1e999 0x 0b 1:1 2025-13-45 = \\ \ufeff".split(" ")
    ),
    max_size=60,
).map(" ".join)
BYTES = st.one_of(st.binary(max_size=200), SNIPPETS.map(lambda text: text.encode()))
CHECKS = {
    "a broken recipe": (check_a_broken_recipe, broken()),
    "overrides": (check_overrides, st.lists(override(), min_size=1, max_size=3)),
    "any text": (check_text, st.one_of(SNIPPETS.map(lambda text: text + "\n"), BYTES)),
}


@pytest.mark.parametrize("name", CHECKS)
def test_a_few_hundred_broken_recipes(name, folder):
    check, inputs = CHECKS[name]
    QUICK(given(inputs)(lambda text: check(text, folder)))()


@pytest.mark.long
@pytest.mark.parametrize("name", CHECKS)
def test_ten_thousand_broken_recipes(name, folder):
    check, inputs = CHECKS[name]
    LONG(given(inputs)(lambda text: check(text, folder)))()


def test_nothing_is_written(folder):
    assert {path.name for path in folder.iterdir()} <= {"recipe.yaml"}
    assert not Path("saved_models", "fuzz").exists()
