"""A bounded YAML reader: any file is either read or rejected quickly."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

import yaml

from keras_kd.errors import RecipeError, explain

MAX_BYTES = 100_000
MAX_DEPTH = 32
MAX_VALUES = 10_000
_MAX_WHOLE_NUMBER = 2**63
_MAX_DIGITS = 400
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def read(path: Path) -> str:
    """The text of a recipe.

    Raises:
        RecipeError: it is not a regular file, not UTF-8 text, or longer than any recipe.
    """
    try:
        return _content(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        reason = "it is not UTF-8 text"
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:  # a NUL in the path
        reason = str(error)
    raise RecipeError(
        explain(
            f"Cannot read the recipe: {reason}.",
            received=printable(str(path)),
            expected="a YAML file",
            fix="`keras-kd init recipe.yaml` writes one to start from.",
        )
    )


def _content(path: Path) -> bytes:
    if path.exists() and not path.is_dir() and not stat.S_ISREG(path.stat().st_mode):
        raise OSError("it is not a regular file")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise OSError(f"it is longer than {MAX_BYTES:,} bytes")
    return content


def printable(text: str) -> str:
    """A path or a key as shown in a message: on one line, in printable characters."""
    shown = text if text and text.isprintable() and text == text.strip() else repr(text)
    return shown if len(shown) <= 160 else f"{shown[:157]}..."


def parse(text: str, problem: str) -> Any:
    """Parses a YAML text.

    Args:
        text: a recipe, or one value of a recipe.
        problem: the beginning of the error message.

    Raises:
        RecipeError: it is not valid YAML, or exceeds the limits on depth, length or number of values.
    """
    if len(text) > MAX_BYTES:
        raise RecipeError(f"{problem}: it is longer than {MAX_BYTES:,} characters.")
    try:
        return _unshared(yaml.load(text, _Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise RecipeError(f"{problem}: {where}{_first_line(error.problem)}.") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2025-13-01
        raise RecipeError(f"{problem}: {_first_line(error)}.") from None
    except (LookupError, TypeError, AttributeError, OverflowError):  # raised by PyYAML for a tag such as `!!int ""`
        raise RecipeError(f"{problem}: a value does not match its tag.") from None


def _unshared(value: Any) -> Any:
    """A copy in which each alias has its own value, so that it can be overridden separately."""
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    return [_unshared(item) for item in value] if isinstance(value, list) else value


def _first_line(error: Any) -> str:
    return (str(error).splitlines() or ["it cannot be read"])[0][:150]


class _Loader(yaml.SafeLoader):
    """Reads 1e-3 as a number, as in YAML 1.2 (PyYAML follows 1.1 and reads text); rejects duplicate keys.

    The limits are checked before anything is built from the text: the depth while reading, the number of values with
    each alias counted in full.
    """

    def __init__(self, stream):
        super().__init__(stream)
        self._depth = 0
        self._sizes: dict[int, int | None] = {}

    def compose_node(self, parent, index):
        if self._depth >= MAX_DEPTH:
            raise _refusal(f"nested more than {MAX_DEPTH} levels deep", self.peek_event().start_mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def get_single_node(self):
        node = super().get_single_node()
        if node is not None:
            self._check_size(node)
        return node

    def _check_size(self, node: yaml.Node) -> int:
        """The number of values in a node, counting those of an alias at each use."""
        if id(node) in self._sizes:
            size = self._sizes[id(node)]
            if size is None:
                raise _refusal("it contains itself", node.start_mark)
            return size
        self._sizes[id(node)] = None
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
        children = () if isinstance(node, yaml.ScalarNode) else node.value
        pairs = children if isinstance(node, yaml.MappingNode) else ((child,) for child in children)
        size = 1 + sum(self._check_size(child) for pair in pairs for child in pair)
        if size > MAX_VALUES:
            raise _refusal(f"more than {MAX_VALUES:,} values, aliases included", node.start_mark)
        self._sizes[id(node)] = size
        return size

    def construct_scalar(self, node):
        value = super().construct_scalar(node)
        if node.tag != self.DEFAULT_SCALAR_TAG and len(value) > _MAX_DIGITS:
            raise _refusal(f"a value of more than {_MAX_DIGITS} characters that is not text", node.start_mark)
        found = _CONTROL.search(value) if isinstance(value, str) else None
        if found:
            raise _refusal(f"the character {found[0]!r} is not allowed", node.start_mark)
        return value

    def construct_whole_number(self, node):
        value = self.construct_yaml_int(node)
        if abs(value) >= _MAX_WHOLE_NUMBER:
            raise _refusal("a whole number of more than 64 bits", node.start_mark)
        return value


def _check_keys(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else id(key)
        if name in seen:
            raise _refusal(f"duplicate key {name!r}", key.start_mark)
        seen.add(name)


def _refusal(problem: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(problem=problem, problem_mark=mark)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_whole_number)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)
