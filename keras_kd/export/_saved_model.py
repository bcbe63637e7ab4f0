"""Writes a Keras model as a SavedModel with static shapes and readable names."""

from __future__ import annotations

import contextlib
import importlib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_kd.errors import ConfigurationError, ExportError, explain, without_colors
from keras_kd.export.preparing.quantized import traced
from keras_kd.keras_private import all_layers

_HALF = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


@dataclass(frozen=True)
class ModelInput:
    """One input of a model.

    Attributes:
        name: its name in the file.
        key: its name in the Keras model.
        shape: without the batch axis; None for an open dimension.
        dtype: the dtype that the model takes.
    """

    name: str
    key: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class Endpoint:
    """A model under the name of a signature.

    Attributes:
        name: of the signature.
        model: in float32.
        inputs: with static shapes.
        calibration: samples by input name, on which ranges are measured; empty for a model with trained ranges.
    """

    name: str
    model: keras.Model
    inputs: list[ModelInput]
    calibration: Mapping[str, np.ndarray]


def model_inputs(model: keras.Model) -> list[ModelInput]:
    """The inputs of a built model, flat, in the order of `keras.tree.flatten`.

    Raises:
        ConfigurationError: the model is not built, or is subclassed and has several inputs.
    """
    if not isinstance(model, keras.Model) or not model.built:
        built = ", which is not built" if isinstance(model, keras.Model) else ""
        problem, fix = "`model` must be a built Keras model.", "Give it an `Input` layer, or call it once on a batch."
        received = f"{type(model).__name__}{built}"
        raise ConfigurationError(explain(problem, received=received, expected="a built keras.Model", fix=fix))
    if not _is_symbolic(model):
        return [_subclassed_input(model)]
    names = _unique(_readable(tensor.name, "keras_tensor", "input") for tensor in model.inputs)
    return [
        ModelInput(name, tensor.name, tuple(tensor.shape[1:]), tensor.dtype)
        for name, tensor in zip(names, model.inputs, strict=True)
    ]


def _is_symbolic(model: keras.Model) -> bool:
    """Whether the model has symbolic inputs, as functional models and built Sequential models do."""
    return bool(getattr(model, "inputs", None))


def _subclassed_input(model: keras.Model) -> ModelInput:
    shape = (model.get_build_config() or {}).get("input_shape")
    if not isinstance(shape, Sequence) or not all(size is None or isinstance(size, int) for size in shape):
        raise ConfigurationError(
            explain(
                "The inputs of this subclassed model are unknown.",
                received=f"{type(model).__name__}, built with {shape or model.get_build_config()}",
                expected="a functional model, a Sequential, or a subclassed model with one input",
                fix="Wrap it: `keras.Model(inputs, model(inputs))`.",
            )
        )
    return ModelInput("input", "input", tuple(shape[1:]), "float32")


def with_known_shapes(inputs: list[ModelInput], arrays: Mapping[str, np.ndarray]) -> list[ModelInput]:
    """The inputs with open dimensions taken from `arrays`: input name -> [n, ...], or empty.

    Raises:
        ConfigurationError: a dimension is open and there are no arrays to take it from.
    """
    if arrays:
        return [replace(one, shape=tuple(arrays[one.name].shape[1:])) for one in inputs]
    for one in inputs:
        if None in one.shape:
            raise ConfigurationError(
                explain(
                    f"Input {one.name!r} has open dimensions, and a TFLite file needs static ones.",
                    received=f"shape {one.shape} without the batch",
                    expected="known sizes",
                    fix="Pass `samples` in the size that the phone will use.",
                )
            )
    return inputs


def pack_inputs(model: keras.Model, flat: Sequence[Any]) -> Any:
    """Flat inputs in the structure that the model takes."""
    if isinstance(model, keras.Sequential) or not _is_symbolic(model):
        return flat[0]
    return keras.tree.pack_sequence_as(model.input, list(flat))


def name_outputs(model: keras.Model, outputs: Any) -> dict[str, Any]:
    """A model's outputs by name: the keys of a dict, or the names of the output layers, or `output_0`, ..."""
    flat = keras.tree.flatten(outputs)
    if isinstance(outputs, dict) and len(outputs) == len(flat):
        names = sorted(outputs)  # the order of keras.tree.flatten
    else:
        last = [model.layers[-1].name] if isinstance(model, keras.Sequential) else []
        names = getattr(model, "output_names", last)  # set for functional models
        names = names if len(names) == len(flat) else [f"output_{i}" for i in range(len(flat))]
    return dict(zip(_unique(re.sub(r"\W", "_", str(name)) for name in names), flat, strict=True))


def write_saved_model(endpoints: Sequence[Endpoint], batch_size: int | None, folder: Path) -> None:
    """Writes the inference passes of models, one signature each, static but for the batch if `batch_size` is None.

    Raises:
        ExportError: Keras cannot trace a model with these shapes.
    """
    archive = keras.export.ExportArchive()
    try:
        with _quiet_tensorflow(), contextlib.ExitStack() as stack:
            for one in endpoints:
                stack.enter_context(traced(one.model))
                archive.track(one.model)
                _add(archive, one, batch_size)
            archive.write_out(str(folder), verbose=False)  # may trace once more
    except Exception as error:
        raise _untraced(endpoints, batch_size, error) from error


def _add(archive: keras.export.ExportArchive, endpoint: Endpoint, batch_size: int | None) -> None:
    model = endpoint.model
    signature = [
        keras.InputSpec(shape=(batch_size, *one.shape), dtype=one.dtype, name=one.name) for one in endpoint.inputs
    ]

    def serve(*flat):
        return name_outputs(model, model(pack_inputs(model, flat), training=False))

    archive.add_endpoint(endpoint.name, serve, input_signature=signature)


def _untraced(endpoints: Sequence[Endpoint], batch_size: int | None, error: Exception) -> ExportError:
    inputs = [each for one in endpoints for each in one.inputs]
    shapes = ", ".join(f"{each.name} {(batch_size, *each.shape)}" for each in inputs)
    reason = without_colors(str(error))
    return ExportError(f"Keras could not export the model with the inputs {shapes}: {reason}")


def resave(
    endpoints: Sequence[Mapping[str, Any]], saved_model: str, batch_size: int | None, modules: Sequence[str]
) -> None:
    """Loads `.keras` files and writes them as a SavedModel, in a process with the TensorFlow backend.

    Args:
        endpoints: of each, its `name`, its `file`, and the fields of its `inputs`.
        saved_model: the folder to write.
        batch_size: the batch size of the signatures; None for any.
        modules: modules that register the models' own classes.
    """
    for module in modules:
        importlib.import_module(module)
    write_saved_model([_loaded(**one) for one in endpoints], batch_size, Path(saved_model))


def _loaded(name: str, file: str, inputs: Sequence[Mapping[str, Any]]) -> Endpoint:
    model = keras.saving.load_model(file, compile=False, safe_mode=False)  # safe: written by the parent
    described = [ModelInput(**{**one, "shape": tuple(one["shape"])}) for one in inputs]
    return Endpoint(name, model, described, {})


def own_modules(models: Iterable[keras.Model]) -> list[str]:
    """The modules, other than those of Keras, that define the classes of models and their layers."""
    modules = {type(layer).__module__ for model in models for layer in (model, *all_layers(model))}
    return sorted(module for module in modules if module.partition(".")[0] not in ("keras", "__main__"))


@contextlib.contextmanager
def _quiet_tensorflow() -> Iterator[None]:
    """Hides TensorFlow's message about a temporary folder, which a notebook would show."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def as_float32(model: keras.Model) -> keras.Model:
    """The model in float32: itself, or a copy if a layer has a half-precision policy.

    TFLite has few half-precision kernels; half-precision weights are `format="float16"`.

    Raises:
        ExportError: the copy cannot be made.
    """
    if not any(layer.compute_dtype in _HALF for layer in all_layers(model)):
        return model
    try:
        copy = type(model).from_config(_without_half(model.get_config()))
        if not copy.built:
            copy.build(model.input_shape)
        copy.set_weights(model.get_weights())
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        problem = f"The model computes in half precision, and a float32 copy of it cannot be made: {reason}"
        fix = "Give its custom classes a `get_config` and register them, or rebuild it in float32."
        raise ExportError(explain(problem, fix=fix)) from error
    return copy


def _without_half(config: Any) -> Any:
    """A config with every half-precision dtype or policy replaced by float32."""
    if isinstance(config, dict):
        return {
            key: "float32" if key == "dtype" and _policy_name(value) in _HALF else _without_half(value)
            for key, value in config.items()
        }
    if isinstance(config, (list, tuple)):
        return type(config)(_without_half(item) for item in config)
    return config


def _policy_name(value: Any) -> Any:
    if isinstance(value, dict) and isinstance(value.get("config"), dict):
        return value["config"].get("name")
    return value if isinstance(value, str) else None


def _readable(name: str, automatic: str, instead: str) -> str:
    """A name fit for a signature; a name generated by Keras, which changes from run to run, is replaced."""
    return instead if name.startswith(automatic) else re.sub(r"\W", "_", name)


def _unique(names: Any) -> list[str]:
    """The names, with repeated ones numbered."""
    names = list(names)
    doubles = {name for name in names if names.count(name) > 1}
    return [f"{name}_{i}" if name in doubles else name for i, name in enumerate(names)]
