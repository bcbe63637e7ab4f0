"""Hearing what runs through a layer while its model makes one ordinary forward pass."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from keras_kd.errors import ConfigurationError, explain
from keras_kd.features.paths import Place
from keras_kd.keras_private import MASKED_SOFTMAX, without_flash_attention

Event = tuple[str, Any]
Wrap = Callable[[Callable], Callable]


@contextlib.contextmanager
def listen(places: Iterable[Place]) -> Iterator[list[Event]]:
    """Collects `(path, what passed there)`, in the order it happened, while the models run inside the `with`.

    The layers are as before afterwards. Nothing runs twice: the one forward pass is overheard.
    """
    events: list[Event] = []
    inside_first = sorted(places, key=lambda place: not place.point.endswith("scores"))  # changes what call returns
    with contextlib.ExitStack() as stack:
        for place in inside_first:
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
        name, colon, point = place.path.rpartition(":") if place.point != "output" else (place.path, "", "")
        name = name if place.call is None else name.rpartition("#")[0]
        calls = ", ".join(f"{name}#{number}{colon}{point}" for number in range(len(heard)))
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
def replaced(owner: Any, attribute: str, wrap: Wrap) -> Iterator[None]:
    """Puts `wrap(original)` in place of a method for the time of the `with`, for the thread that asks.

    Replicas of `tf.distribute` are threads that take turns in the middle of a forward pass: each hears itself alone,
    and whoever leaves last puts the original back.
    """
    wrapped = (threading.get_ident(), wrap)
    with _lock:
        switch = vars(owner).get(attribute)
        if not isinstance(switch, _Switch):
            switch = _Switch(owner, attribute)
            setattr(owner, attribute, switch)
        switch.wraps.append(wrapped)
    try:
        yield
    finally:
        with _lock:
            switch.wraps.remove(wrapped)
            if not switch.wraps:
                switch.restore()


_lock = threading.Lock()


class _Switch:
    """Stands in for a method: the original, inside what this thread has wrapped around it."""

    def __init__(self, owner: Any, attribute: str):
        self.owner, self.attribute = owner, attribute
        self.original = getattr(owner, attribute)
        self.is_own = attribute in vars(owner)
        self.wraps: list[tuple[int, Wrap]] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        function = self.original
        for thread, wrap in tuple(self.wraps):
            if thread == threading.get_ident():
                function = wrap(function)
        return function(*args, **kwargs)

    def restore(self) -> None:
        if self.is_own:
            setattr(self.owner, self.attribute, self.original)
        else:
            delattr(self.owner, self.attribute)


def _call_method(operation: Any) -> str:
    """The method that Keras runs: a quantised layer has another."""
    return "call" if getattr(operation, "quantization_mode", None) is None else "quantized_call"


def _first(args: tuple, kwargs: dict) -> Any:
    return args[0] if args else next(iter(kwargs.values()))


def _output(operation: Any, hear: Callable[[Any], None]) -> contextlib.AbstractContextManager:
    def wrap(original):
        def call(*args, **kwargs):
            output = original(*args, **kwargs)
            hear(output)
            return output

        return call

    return replaced(operation, _call_method(operation), wrap)


def hear_input(operation: Any, hear: Callable[[Any], None], method: str | None = None):
    """What enters a method of a layer, by default the layer itself."""

    def wrap(original):
        def call(*args, **kwargs):
            hear(_first(args, kwargs))
            return original(*args, **kwargs)

        return call

    return replaced(operation, method or _call_method(operation), wrap)


def _preactivation(operation: Any, hear: Callable[[Any], None]):
    return hear_input(operation, hear, "activation")


@contextlib.contextmanager
def _scores(attention: Any, hear: Callable[[Any], None]) -> Iterator[None]:
    """What an attention layer returns as its scores; asking for them also keeps it off the fused kernel."""

    def wrap(original):
        def call(*args, return_attention_scores=False, **kwargs):
            with without_flash_attention(attention):
                output, scores = original(*args, return_attention_scores=True, **kwargs)
            hear(scores)
            return (output, scores) if return_attention_scores else output

        return call

    with replaced(attention, "call", wrap):
        yield


@contextlib.contextmanager
def _raw_scores(attention: Any, hear: Callable[[Any], None]) -> Iterator[None]:
    with _scores(attention, lambda scores: None), hear_input(attention, hear, MASKED_SOFTMAX):
        yield


_LISTENERS = {
    "output": _output,
    "input": hear_input,
    "preactivation": _preactivation,
    "scores": _scores,
    "raw_scores": _raw_scores,
}
