"""Auxiliary classifiers on the inner layers of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_kd.errors import ConfigurationError, explain
from keras_kd.features import find_place
from keras_kd.features.outputs import is_graph, symbolic_outputs
from keras_kd.keras_private import call_that_made

MAIN = "output"
FEATURES = "features"


def with_exits(model: keras.Model, exits: Sequence[str]) -> keras.Model:
    """The model with a classifier on each of some inner layers, sharing its layers and weights.

    Each exit brings its features to the size and width of the deepest ones, by a 1x1 convolution to a quarter of that
    width, a convolution whose kernel and stride are the ratio of the sizes, and a 1x1 convolution, each with batch
    normalization and ReLU; it then pools and classifies them. Features without positions pass through dense layers.

    Source: Zhang, Song, Gao, Chen, Bao & Ma, "Be Your Own Teacher: Improve the Performance of Convolutional Neural
    Networks via Self Distillation", 2019.

    Args:
        model: a Functional or Sequential model with one output.
        exits: paths of its own layers (not of layers in nested models), as in `kd.taps`.

    Returns:
        A model with the outputs `"output"`, `"exit_1"`, `"exit_2"` and so on.

    Raises:
        ConfigurationError: a subclassed model, one with several outputs, or a layer that does not exist, that is named
            twice, or that is the output itself.
    """
    _check(model, exits)
    inputs, output = model.inputs, model.outputs[0]
    tensors = [_tensor_of(model, path) for path in exits]
    outputs = {MAIN: output}
    for number, features in enumerate(tensors, start=1):
        name = f"exit_{number}"
        outputs[name] = _classify(features, output, name, deepest_features(model, features))
        if tuple(outputs[name].shape) != tuple(output.shape):
            raise ConfigurationError(
                explain(
                    f"The exit at {exits[number - 1]!r} has another shape than the model's output.",
                    received=tuple(outputs[name].shape),
                    expected=tuple(output.shape),
                )
            )
    return keras.Model(inputs[0] if len(inputs) == 1 else inputs, outputs, name=f"{model.name}_with_exits")


def exits_of(model: keras.Model) -> list[str]:
    """The names of all outputs but the main one."""
    return [name for name in symbolic_outputs(model) if name != MAIN]


def deepest_features(model: keras.Model, features: Any) -> keras.KerasTensor | None:
    """The last tensor before the classifier with as many axes as `features`; None if nothing after them has."""
    operations = operations_of(model)
    classifier = max(index for index, operation in enumerate(operations) if getattr(operation, "weights", ()))
    made = [operation.output for operation in operations[:classifier] if not _is_noise(operation)]
    same = [tensor for tensor in made if _is_tensor(tensor) and len(tensor.shape) == len(features.shape)]
    return same[-1] if same and same[-1] is not features else None


def deepest_layer(model: keras.Model, path: str) -> str | None:
    """The name of the layer that makes the deepest features of a model with exits, for those at `path`."""
    alone = keras.Model(model.input, symbolic_outputs(model)[MAIN])
    deepest = deepest_features(alone, find_place(model, path).operation.output)
    return None if deepest is None else call_that_made(deepest)[0].operation.name


def _classify(features: Any, output: Any, name: str, deepest: Any) -> Any:
    """The outputs of an exit, with the final activation of the model."""
    features = _brought_to(features, deepest, name)
    if len(features.shape) > 2:
        pool = {3: layers.GlobalAveragePooling1D, 4: layers.GlobalAveragePooling2D, 5: layers.GlobalAveragePooling3D}
        features = pool[len(features.shape)](name=f"{name}_pool")(features)
    last = call_that_made(output)[0].operation
    activation = getattr(last, "activation", None)
    if isinstance(last, layers.Softmax):
        activation = keras.activations.softmax
    own = {"dtype": getattr(last, "dtype_policy", None), "name": f"{name}_classifier"}
    return layers.Dense(output.shape[-1], activation=activation, **own)(features)


def _brought_to(features: Any, deepest: Any, name: str) -> Any:
    """Features of the width and, where the ratio allows, the size of the deepest."""
    width = (features if deepest is None else deepest).shape[-1]
    if len(features.shape) == 2:
        return _normalized(layers.Dense(width, use_bias=False, name=f"{name}_{FEATURES}")(features), name)
    rank = len(features.shape) - 2
    convolution = (layers.Conv1D, layers.Conv2D, layers.Conv3D)[rank - 1]
    sizes = features.shape[1:-1], (features if deepest is None else deepest).shape[1:-1]
    ratio = tuple(max(1, round(own / deep)) if own and deep else 1 for own, deep in zip(*sizes, strict=True))
    steps = ((max(1, width // 4), 1, 1), (max(1, width // 4), ratio, ratio), (width, 1, 1))
    x = features
    for number, (filters, kernel, strides) in enumerate(steps, start=1):
        own = f"{name}_{FEATURES}" if number == len(steps) else f"{name}_conv_{number}"
        x = convolution(filters, kernel, strides, padding="same", use_bias=False, name=own)(x)
        x = _normalized(x, own)
    return x


def _normalized(x: Any, name: str) -> Any:
    return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_norm")(x))


def features_of_exit(model: keras.Model, name: str) -> str | None:
    """The path of the last features before an exit's pooling; None if the exit is not one of ours."""
    names = {operation.name for operation in operations_of(model)}
    path = f"{name}_{FEATURES}"
    return next((own for own in (f"{path}_relu", f"{name}_relu") if own in names and path in names), None)


def operations_of(model: keras.Model) -> list[Any]:
    """The operations of a Functional or Sequential model, in order."""
    return list(getattr(model, "operations", None) or model.layers)


def _is_noise(operation: Any) -> bool:
    """Whether an operation changes its inputs at random, in training alone."""
    return "Dropout" in type(operation).__name__ or "Noise" in type(operation).__name__


def _is_tensor(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)


def _tensor_of(model: keras.Model, path: str) -> Any:
    operation = find_place(model, path).operation
    if not any(operation is own for own in operations_of(model)):
        problem = f"The layer {path!r} is inside a nested model."
        raise ConfigurationError(
            explain(
                problem, received=path, expected="a layer of the model itself", fix="Build the model without nesting."
            )
        )
    if not _is_tensor(operation.output):
        raise ConfigurationError(explain(f"The layer {path!r} returns several tensors.", received=path))
    return operation.output


def _check(model: Any, exits: Any) -> None:
    if not is_graph(model) or len(model.outputs) != 1:
        kind = f"a {type(model).__name__}"
        outputs = len(getattr(model, "outputs", None) or ())
        raise ConfigurationError(
            explain(
                "Exits need a model that is a graph of layers with a single output.",
                received=f"{kind} with {outputs} outputs" if outputs else f"{kind} without a graph, or not built",
                expected="a Functional model, or a Sequential model with an Input",
            )
        )
    if isinstance(exits, str) or not exits or len(set(exits)) != len(exits):
        raise ConfigurationError(
            explain("Invalid 'exits'.", received=repr(exits), expected="a list of different layers, at least one")
        )
    last = call_that_made(model.outputs[0])[0].operation.name
    if last in exits:
        raise ConfigurationError(
            explain("An exit at the model's own output teaches nothing.", received=last, expected="inner layers")
        )
