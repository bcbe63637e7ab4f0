"""Describes a training as plain data, so that a saved state is resumed only by the same training."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_kd import files
from keras_kd.callbacks._fit import RunningFit
from keras_kd.data import Pipeline
from keras_kd.errors import ConfigurationError, explain
from keras_kd.keras_private import (
    all_layers,
    array_inputs,
    array_shuffle,
    data_source,
    has_learning_rate_schedule,
    holds_layers,
)

_AUTOMATIC = ("name", "module", "registered_name", "build_config", "compile_config", "shared_object_id")
_HASHED_BYTES = 256 * 2**20
_NUM_SHOWN = 5

Flat = dict[str, Any]


def identity_of_model(model: keras.Model) -> Flat:
    """Student, teacher, terms, loss and optimizer, without the numbers that may change during training."""
    student = getattr(model, "student", model)
    parts = {
        "model": type(model).__name__,
        "student": _student(student),
        "loss": plain(model.loss),
        "optimizer": plain(model.optimizer),
    }
    if student is not model:
        chosen = getattr(model, "kept_terms", [])
        parts["losses"] = {
            getattr(term, "name", "term"): _of_kept(term) if any(term is kept for kept in chosen) else plain(term)
            for term in getattr(model, "terms", [])
        }
        parts["regime"] = plain(getattr(model, "regime_settings", None))
        parts["adversary"] = plain([getattr(model, "adversary", None), getattr(model, "supervise", None)])
        parts["teacher"] = getattr(getattr(model, "teacher", None), "fingerprint", None)
        sides = {name: getattr(model, name, None) for name in ("teacher_inputs", "student_inputs")}
        parts |= {name: side for name, side in sides.items() if isinstance(side, str)}
    flat = flatten(parts)
    return {path: value for path, value in flat.items() if not _is_learning_rate(path, value)}


def _of_kept(term: Any) -> Any:
    """A term that the distiller made for a model: what it reads follows from it, under names that Keras may number."""
    flat = flatten(plain(term))
    return {path: value for path, value in flat.items() if path.split(".")[-1] not in ("teacher", "student")}


def numbers_of(model: keras.Model) -> Flat:
    """The numbers that may change during training: learning rate, alpha and temperature.

    A schedule is described by its configuration.
    """
    numbers: Flat = {}
    optimizer = model.optimizer
    if optimizer is not None and not has_learning_rate_schedule(optimizer):
        numbers["learning rate"] = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
    for name in ("alpha", "temperature"):
        if hasattr(model, name):
            value = getattr(model, name)
            numbers[name] = value if isinstance(value, float) else json.dumps(plain(value), sort_keys=True)
    return numbers


def identity_of_data(fit: RunningFit) -> Flat:
    """Content and order of the batches, as far as they are known without reading a data set."""
    adapter = fit.adapter
    if isinstance(adapter, Pipeline):
        examples = adapter.examples
        with_labels = examples.parts > 1 and examples.random_access
        parts = {
            **adapter.identity(),
            "labels": files.digest_of_arrays(keras.tree.flatten(examples.labels())) if with_labels else None,
            **{name: getattr(adapter, name) for name in ("batch_size", "seed", "shuffle", "views")},
            "curriculum": adapter.curriculum_identity(),
        }
    elif (arrays := array_inputs(adapter)) is not None:
        parts = {
            "shapes": ", ".join(f"{array.dtype} {tuple(array.shape)}" for array in arrays),
            "content": _content(arrays),
            "batch_size": adapter.batch_size,
            "shuffle": plain(array_shuffle(adapter)),
        }
    else:
        source = data_source(adapter)
        parts = {
            "kind": type(adapter).__name__ if hasattr(source, "element_spec") else type(source).__name__,
            "elements": str(getattr(source, "element_spec", None)),
            "batches": None if adapter.num_batches is None else int(adapter.num_batches),
        }
    return flatten({"data": {**parts, "steps_per_epoch": fit.steps_per_epoch}})


def replays(fit: RunningFit) -> bool:
    """Whether another process is known to see the same batches in each epoch."""
    if isinstance(fit.adapter, Pipeline):
        return fit.steps_per_epoch in (None, fit.adapter.steps_per_epoch)
    return array_shuffle(fit.adapter) is False and fit.steps_per_epoch is None


def check_same(saved: Flat, present: Flat, where: Any) -> None:
    """Raises `ConfigurationError`, naming what differs, if a state was saved by another training.

    Args:
        saved: the identity that the state was saved with.
        present: the identity of the current training.
        where: the folder of the state.
    """
    differing = [path for path in {**saved, **present} if not _equal(saved.get(path), present.get(path))]
    if not differing:
        return
    shown = differing[:_NUM_SHOWN]
    more = f", and {len(differing) - len(shown)} more" if len(differing) > len(shown) else ""
    raise ConfigurationError(
        explain(
            f"The state saved in {where} belongs to another training.",
            received="; ".join(f"{path} {present.get(path)!r}" for path in shown) + more,
            expected="the saved settings, " + "; ".join(f"{path} {saved.get(path)!r}" for path in shown) + more,
            fix="Use another folder, or delete this one to start over. To continue from its weights with new settings, "
            "call `restore(model)` on a Resume with this folder and pass a Resume with another folder to `fit`.",
        )
    )


def plain(value: Any) -> Any:
    """Converts a setting to plain data that is the same in every process; names generated by Keras are left out."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items() if key not in _AUTOMATIC}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "get_config"):
        return {"class": type(value).__name__, **_config(value)}
    if hasattr(value, "__array__"):
        return files.digest_of_arrays([value])
    return getattr(value, "__qualname__", type(value).__name__)


def flatten(nested: Any, path: str = "") -> Flat:
    """Flattens nested plain data: `{"optimizer": {"beta_1": 0.9}}` becomes `{"optimizer.beta_1": 0.9}`."""
    items = nested.items() if isinstance(nested, dict) else enumerate(nested) if isinstance(nested, list) else None
    if items is None:
        return {path: nested}
    flat: Flat = {}
    for key, value in items:
        flat |= flatten(value, f"{path}.{key}" if path else str(key))
    return flat


def _student(student: keras.Model) -> Any:
    leaves = [layer for layer in all_layers(student) if not holds_layers(layer)]
    return {
        "layers": [_layer(layer) for layer in leaves],
        "weights": ", ".join(str(tuple(weight.shape)) for weight in student.weights),
        "trainable": len(student.trainable_weights),
        "wiring": files.digest_of_json(_renamed(_config(student, automatic=True))),
    }


def _layer(layer: keras.Layer) -> str:
    shapes = ", ".join(str(tuple(weight.shape)) for weight in layer.weights)
    settings = files.digest_of_json(_config(layer))
    return f"{type(layer).__name__}{f' {shapes}' if shapes else ''}, settings {settings[:8]}"


def _config(value: Any, *, automatic: bool = False) -> dict[str, Any]:
    """The config without the names that Keras generates; empty if there is none."""
    try:
        config = value.get_config()
    except Exception:  # a user's class without a config is identified by its name and weights
        return {}
    return config if automatic else plain(config)


def _renamed(config: Any) -> Any:
    """A model's config with layer names, which Keras numbers across models, replaced by their order in the config."""
    names: dict[str, str] = {}

    def collect(node: Any) -> None:
        if isinstance(node, Mapping):
            if isinstance(node.get("name"), str):
                names.setdefault(node["name"], f"#{len(names)}")
            for item in node.values():
                collect(item)
        elif isinstance(node, (list, tuple)):
            for item in node:
                collect(item)

    def replace(node: Any) -> Any:
        if isinstance(node, Mapping):
            return {str(key): replace(item) for key, item in node.items() if key not in _AUTOMATIC}
        if isinstance(node, (list, tuple)):
            return [replace(item) for item in node]
        return names.get(node, node) if isinstance(node, str) else plain(node)

    collect(config)
    return replace(config)


def _content(arrays: list[Any]) -> str:
    """A digest of the arrays; for large ones, of evenly spaced rows."""
    num_bytes = sum(getattr(array, "nbytes", 0) for array in arrays)
    step = max(1, math.ceil(num_bytes / _HASHED_BYTES))
    return files.digest_of_arrays(array[::step] for array in arrays if hasattr(array, "__array__"))


def _is_learning_rate(path: str, value: Any) -> bool:
    return path.endswith("learning_rate") and isinstance(value, float)


def _equal(one: Any, other: Any) -> bool:
    return one == other or (one != one and other != other)
