"""Hearing what runs through a layer while its model makes one ordinary forward pass."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from keras_kd.errors import ConfigurationError, explain
from keras_kd.features.paths import Place

Event = tuple[str, Any]


@contextlib.contextmanager
def listen(places: Iterable[Place]) -> Iterator[list[Event]]:
    """Collects `(path, what passed there)`, in the order it happened, while the models run inside the `with`.

    The layers are as before afterwards. Nothing runs twice: the one forward pass is overheard.
    """
    events: list[Event] = []
    with contextlib.ExitStack() as stack:
        for place in places:
            hear = functools.partial(_note, events, place.path)
            stack.enter_context(_LISTENERS[place.point](place.operation, hear))
        yield events


def _note(events: list[Event], path: str, value: Any) -> None:
    events.append((path, value))


def pick(place: Place, events: list[Event]) -> Any:
    """The tensor that a place means, of all that was heard in one forward pass.

    Raises:
        ConfigurationError: the layer did not run, ran more than once and it is not said which call counts, or gives
            several tensors.
    """
    heard = [value for path, value in events if path == place.path]
    index = place.call or 0
    if len(heard) <= index or (len(heard) > 1 and place.call is None):
        name = place.path.split("#")[0].split(":")[0]
        calls = ", ".join(f"{name}#{number}" for number in range(len(heard)))
        raise ConfigurationError(
            explain(
                f"It is not clear what {place.path!r} means in a forward pass.",
                received=f"{len(heard)} calls of that layer",
                expected=f"one of {calls}" if heard else "a layer that runs",
            )
        )
    value = heard[index]
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    if not hasattr(value, "shape"):
        raise ConfigurationError(
            explain(
                f"{place.path!r} is not one tensor.",
                received=type(value).__name__,
                expected="a layer that gives a single tensor",
                fix="Name a layer inside it, or the one that takes its output apart.",
            )
        )
    return value


@contextlib.contextmanager
def replaced(owner: Any, attribute: str, wrap: Callable[[Callable], Callable]) -> Iterator[None]:
    """Puts `wrap(original)` in place of a method for the time of the `with`."""
    original = getattr(owner, attribute)
    is_own = attribute in vars(owner)
    setattr(owner, attribute, wrap(original))
    try:
        yield
    finally:
        if is_own:
            setattr(owner, attribute, original)
        else:
            delattr(owner, attribute)


def _first(args: tuple, kwargs: dict) -> Any:
    return args[0] if args else next(iter(kwargs.values()))


def _output(operation: Any, hear: Callable[[Any], None]) -> contextlib.AbstractContextManager:
    def wrap(original):
        def call(*args, **kwargs):
            output = original(*args, **kwargs)
            hear(output)
            return output

        return call

    return replaced(operation, "call", wrap)


def hear_input(operation: Any, hear: Callable[[Any], None], method: str = "call"):
    """What enters a method of a layer, by default the layer itself."""

    def wrap(original):
        def call(*args, **kwargs):
            hear(_first(args, kwargs))
            return original(*args, **kwargs)

        return call

    return replaced(operation, method, wrap)


def _preactivation(operation: Any, hear: Callable[[Any], None]):
    return hear_input(operation, hear, "activation")


@contextlib.contextmanager
def _scores(attention: Any, hear: Callable[[Any], None]) -> Iterator[None]:
    """What an attention layer returns as its scores; asking for them also keeps it off the fused kernel."""

    def wrap(original):
        def call(*args, return_attention_scores=False, **kwargs):
            output, scores = original(*args, return_attention_scores=True, **kwargs)
            hear(scores)
            return (output, scores) if return_attention_scores else output

        return call

    with replaced(attention, "call", wrap):
        yield


@contextlib.contextmanager
def _raw_scores(attention: Any, hear: Callable[[Any], None]) -> Iterator[None]:
    with _scores(attention, lambda scores: None), hear_input(attention, hear, "_masked_softmax"):
        yield


_LISTENERS = {
    "output": _output,
    "input": hear_input,
    "preactivation": _preactivation,
    "scores": _scores,
    "raw_scores": _raw_scores,
}
