"""Registers, looks up and serializes small named objects: losses, schedules, tasks.

A `Registry` contains the members of one kind by their snake_case name, so that a recipe can use `cosine` or
`{name: cosine, start: 0.9, end: 0.1, steps: 1200}`; each member is also registered with Keras, so that a saved model
can be loaded. Importing this module does not load Keras; registering something does.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from keras_kd.errors import ConfigurationError, explain

PACKAGE = "keras_kd"


def register(cls: type) -> type:
    """Registers a class in Keras as `keras_kd>ClassName`."""
    import keras

    return keras.saving.register_keras_serializable(PACKAGE)(cls)


def serialize(value: Any) -> Any:
    """Converts an object to plain data, in Keras' format."""
    import keras

    return keras.saving.serialize_keras_object(value)


def deserialize(config: Any) -> Any:
    """Creates the object from what `serialize` returned."""
    import keras

    return keras.saving.deserialize_keras_object(config)


def snake_case(name: str) -> str:
    """
    >>> snake_case("SoftTargets"), snake_case("DecoupledKD")
    ('soft_targets', 'decoupled_kd')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def nearest(name: str, names: Any) -> str:
    """A hint with the closest of `names`, such as `Did you mean 'cosine'?`; empty if none is close."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"Did you mean {close[0]!r}?" if close else ""


class Registry:
    """The members of one kind (`"schedule"`, `"loss"`), by snake_case name."""

    def __init__(self, kind: str):
        self.kind = kind
        self._members: dict[str, type] = {}

    def register(self, cls: type) -> type:
        """A class decorator: registers `cls` here and with Keras."""
        self._members[snake_case(cls.__name__)] = cls
        return register(cls)

    @property
    def names(self) -> list[str]:
        return sorted(self._members)

    @property
    def members(self) -> list[type]:
        return [self._members[name] for name in self.names]

    def get(self, identifier: Any) -> Any:
        """An instance from a name, from a mapping with `name` and settings, or the instance itself.

        Raises:
            ConfigurationError: an unknown name, or settings that the class does not take.
        """
        if isinstance(identifier, tuple(self._members.values())):
            return identifier
        if isinstance(identifier, str):
            return self.get({"name": identifier})
        if not isinstance(identifier, Mapping) or not isinstance(identifier.get("name"), str):
            raise ConfigurationError(
                explain(
                    f"Unsupported {self.kind}.",
                    received=repr(identifier),
                    expected=f"a {self.kind} object, a name ({', '.join(self.names)}), or a mapping with a 'name'",
                )
            )
        settings = dict(identifier)
        name = settings.pop("name")
        return make(self.kind, name, look_up(self.kind, name, self._members), **settings)


def look_up(kind: str, name: Any, members: Mapping[str, Any]) -> Any:
    """Returns the member of that name; raises `ConfigurationError` with the known names if there is none."""
    if name in members:
        return members[name]
    names = sorted(members)
    raise ConfigurationError(
        explain(
            f"Unknown {kind}.",
            received=repr(name),
            expected=f"one of {', '.join(names)}",
            fix=nearest(str(name), names) or None,
        )
    )


def make(kind: str, name: str, function: Callable[..., Any], /, *args: Any, **settings: Any) -> Any:
    """Calls `function`, or raises `ConfigurationError` if it does not take these settings."""
    signature = inspect.signature(function)
    try:
        signature.bind(*args, **settings)
    except TypeError as error:
        raise ConfigurationError(
            explain(
                f"The {kind} {name!r} does not take these settings: {error}.",
                received=repr(settings),
                expected=f"{name}{signature}",
            )
        ) from None
    return function(*args, **settings)
