"""Captures inputs and outputs of inner layers during one ordinary forward pass of a model."""

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
def capture(places: Iterable[Place]) -> Iterator[list[Event]]:
    """Collects `(path, value)` in execution order while models run inside the `with` block.

    Nothing runs twice, and the layers are restored afterwards.
    """
    events: list[Event] = []
    inside_first = sorted(places, key=lambda place: not place.point.endswith("scores"))  # changes what call returns
    with contextlib.ExitStack() as stack:
        for place in inside_first:
            record = functools.partial(_note, events, place.path)
            stack.enter_context(_CAPTURERS[place.point](place.operation, record))
        yield events


def _note(events: list[Event], path: str, value: Any) -> None:
    events.append((path, value))


def pick(place: Place, events: list[Event]) -> Any:
    """The tensor that was captured at a place in one forward pass.

    Raises:
        ConfigurationError: if the layer did not run, ran more than once without the path selecting a call, or returned
            several tensors.
    """
    captured = [value for path, value in events if path == place.path]
    index = place.call or 0
    if len(captured) <= index or (len(captured) > 1 and place.call is None):
        name, colon, point = place.path.rpartition(":") if place.point != "output" else (place.path, "", "")
        name = name if place.call is None else name.rpartition("#")[0]
        calls = ", ".join(f"{name}#{number}{colon}{point}" for number in range(len(captured)))
        raise ConfigurationError(
            explain(
                f"{place.path!r} does not identify one call of a layer.",
                received=f"{len(captured)} calls of that layer",
                expected=f"one of {calls}" if captured else "a layer that runs",
            )
        )
    value = captured[index]
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    if not hasattr(value, "shape"):
        raise ConfigurationError(
            explain(
                f"{place.path!r} is not a single tensor.",
                received=type(value).__name__,
                expected="a layer that returns a single tensor",
                fix="Name a layer inside it, or one that reads a part of its output.",
            )
        )
    return value


@contextlib.contextmanager
def replaced(owner: Any, attribute: str, wrap: Wrap) -> Iterator[None]:
    """Replaces a method by `wrap(original)` inside the `with` block, for the calling thread only.

    Replicas of `tf.distribute` are threads that take turns in the middle of a forward pass: each captures only its own
    values, and the last one to leave restores the original.
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
    """Replaces a method: calls the original inside the wrappers of the current thread."""

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
    """The name of the method that Keras runs, which differs for a quantized layer."""
    return "call" if getattr(operation, "quantization_mode", None) is None else "quantized_call"


def _first(args: tuple, kwargs: dict) -> Any:
    return args[0] if args else next(iter(kwargs.values()))


def _output(operation: Any, record: Callable[[Any], None]) -> contextlib.AbstractContextManager:
    def wrap(original):
        def call(*args, **kwargs):
            output = original(*args, **kwargs)
            record(output)
            return output

        return call

    return replaced(operation, _call_method(operation), wrap)


def capture_input(operation: Any, record: Callable[[Any], None], method: str | None = None):
    """Captures the input of a method of a layer, by default of the layer's own call."""

    def wrap(original):
        def call(*args, **kwargs):
            record(_first(args, kwargs))
            return original(*args, **kwargs)

        return call

    return replaced(operation, method or _call_method(operation), wrap)


def _preactivation(operation: Any, record: Callable[[Any], None]):
    return capture_input(operation, record, "activation")


@contextlib.contextmanager
def _scores(attention: Any, record: Callable[[Any], None]) -> Iterator[None]:
    """Captures the scores that an attention layer returns; requesting them also avoids the fused kernel."""

    def wrap(original):
        def call(*args, return_attention_scores=False, **kwargs):
            with without_flash_attention(attention):
                output, scores = original(*args, return_attention_scores=True, **kwargs)
            record(scores)
            return (output, scores) if return_attention_scores else output

        return call

    with replaced(attention, "call", wrap):
        yield


@contextlib.contextmanager
def _raw_scores(attention: Any, record: Callable[[Any], None]) -> Iterator[None]:
    with _scores(attention, lambda scores: None), capture_input(attention, record, MASKED_SOFTMAX):
        yield


_CAPTURERS = {
    "output": _output,
    "input": capture_input,
    "preactivation": _preactivation,
    "scores": _scores,
    "raw_scores": _raw_scores,
}
