"""Every private Keras name that this package uses.

No other module imports `keras.src` or reads an underscored attribute of a Keras object; a test over the syntax trees
enforces this. Each entry gives the reason for its use and what breaks if Keras moves the name.
`tests/test_keras_private.py` tests the behavior of each one, so an incompatible Keras release fails there, by name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
import threading
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.backend.common import masking
from keras.src.saving.serialization_lib import in_safe_mode
from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter, can_convert_arrays
from keras.src.trainers.data_adapters.array_slicing import train_validation_split
from keras.src.trainers.data_adapters.data_adapter import DataAdapter
from keras.src.trainers.epoch_iterator import EpochIterator

__all__ = [
    "MASKED_SOFTMAX",
    "PRIVATE_STATE",
    "ArrayDataAdapter",
    "Call",
    "DataAdapter",
    "EpochIterator",
    "all_layers",
    "array_inputs",
    "array_shuffle",
    "attention_parts",
    "call_that_made",
    "calls_of",
    "can_convert_arrays",
    "clear_losses",
    "compiled_loss",
    "compiled_metrics",
    "copy_operation",
    "data_source",
    "forget_compilation",
    "has_learning_rate_schedule",
    "holds_layers",
    "in_safe_mode",
    "inner_layers",
    "is_bookkeeping",
    "keras_mask",
    "limited_variables",
    "loss_settings",
    "optimized_variables",
    "replace_inner_layer",
    "running_method",
    "set_initial_epoch",
    "set_keras_mask",
    "set_trainable_flag",
    "train_validation_split",
    "uncompiled",
    "update_fewer_variables",
    "without_flash_attention",
]

# The imported names.
#
# DataAdapter: `fit` accepts one besides arrays and data sets, and only an adapter is notified of each epoch and keeps
#     its own order. Without it, `Pipeline` cannot be passed to `fit`.
# ArrayDataAdapter, can_convert_arrays, train_validation_split: how Keras turns arrays into batches. Without them,
#     arrays wait for tf.data's autotuner at the end of each epoch.
# EpochIterator: identifies the frame of a running `fit`. Without it, `Resume` cannot find the data.
# in_safe_mode: whether a file that is being loaded is trusted. Without it, loading a distiller could run a SavedModel
#     without the user's consent.


# Layers.


def all_layers(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    """A model and every layer inside it, at any depth.

    `model.layers` does not descend into nested models and wrappers. Without this, nested float16 parts, shared weights
    and layers that XLA cannot compile go unnoticed.
    """
    return list(model._flatten_layers())


def inner_layers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The direct children of a layer. Without this, paths end at subclassed layers and wrappers."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def holds_layers(layer: keras.layers.Layer) -> bool:
    """Whether a layer contains other layers."""
    return bool(inner_layers(layer))


def replace_inner_layer(owner: keras.layers.Layer, old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    """Puts a layer in the attribute of its owner that holds another one, before the owner is built.

    A plain assignment leaves the old layer among those that Keras tracks. Without this nothing inside `Bidirectional`
    can be replaced, which makes a copy of the forward layer that it is given.
    """
    (attribute,) = (name for name, value in vars(owner).items() if value is old)
    owner._tracker.replace_tracked_value("layers", old, new)
    setattr(owner, attribute, new)


def is_bookkeeping(attribute: str) -> bool:
    """Whether Keras or TensorFlow uses this attribute for its own lists of all layers.

    Without this, a subclassed model's layers are called `_layers/0` instead of by the attribute that holds them.
    """
    return attribute == "_layers" or attribute.startswith("_self_")


def set_trainable_flag(layer: keras.layers.Layer, value: bool) -> None:
    """Sets `trainable` of one layer; the public setter also sets it on all layers inside.

    Without this, a copy of a partly frozen model cannot be frozen in the same parts.
    """
    layer._trainable = bool(value)


# The graph of a Functional or Sequential model.


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of an operation while a symbolic graph was built.

    Attributes:
        operation: the layer, nested model or `keras.ops` operation.
        args, kwargs: the arguments of the call, with a `keras.KerasTensor` for each tensor.
        inputs: the tensors among the arguments.
        outputs: the returned tensors, flattened.
    """

    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[keras.KerasTensor, ...]
    outputs: tuple[keras.KerasTensor, ...]


def call_that_made(tensor: keras.KerasTensor) -> tuple[Call, int]:
    """The call that returned a symbolic tensor, and the index of that output.

    Keras has no public way to find a tensor's layer. Without this, logits cannot be distinguished from probabilities,
    and batch normalization cannot be folded.
    """
    operation, node_index, tensor_index = tensor._keras_history
    nodes = operation._inbound_nodes
    return (_call(nodes[node_index]) if nodes else Call(operation, (), {}, (), (tensor,))), tensor_index


def calls_of(model: keras.Model) -> list[Call]:
    """The calls in a Functional model except its inputs, in topological order.

    Without this, models cannot be read as graphs, and nothing can be folded, copied or replaced.
    """
    by_depth = model._nodes_by_depth
    nodes = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
    return [_call(node) for node in nodes if not node.is_input]


def _call(node: Any) -> Call:
    arguments = node.arguments
    return Call(node.operation, arguments.args, arguments.kwargs, tuple(node.input_tensors), tuple(node.outputs))


def copy_operation(operation: Any) -> Any:
    """A copy of a `keras.ops` operation without its record of calls; the settings are shared.

    An operation has a config only if its arguments can be serialized, and calling the original again would extend its
    record. Without this, a model with a bare operation such as `keras.ops.map` cannot be copied.
    """
    copy = object.__new__(type(operation))
    vars(copy).update(vars(operation), _inbound_nodes=[], _outbound_nodes=[])
    return copy


# Variables.

_LIMITING = threading.RLock()


@contextlib.contextmanager
def limited_variables(num_elements: int) -> Iterator[None]:
    """Inside the `with` block, this thread creates variables of at most so many elements in total, or a `ValueError`.

    Without this, a `.keras` file whose configuration is damaged makes Keras reserve any amount of memory: Keras creates
    the variables before it reads the weights.
    """
    thread, left = threading.get_ident(), num_elements

    def validate_shape(self, shape):
        nonlocal left
        shape = original(self, shape)
        if threading.get_ident() == thread:
            left -= math.prod(shape)
            if left < 0:
                raise ValueError(f"A variable of shape {tuple(shape)} is larger than the stored weights")
        return shape

    with _LIMITING:
        owner = next(one for one in keras.Variable.__mro__ if "_validate_shape" in vars(one))
        original = owner._validate_shape
        owner._validate_shape = validate_shape
        try:
            yield
        finally:
            owner._validate_shape = original


# Tensors.


def keras_mask(tensor: Any) -> Any:
    """The mask that a layer attached to its output, or None. Without this, losses on features include padding."""
    return masking.get_keras_mask(tensor)  # JAX arrays have no attributes, so Keras keeps their masks elsewhere


def set_keras_mask(tensor: Any, mask: Any) -> None:
    """Attaches a mask to a tensor. Without this, logits lose the mask of the activation's output."""
    masking.set_keras_mask(tensor, mask)


# Attention.

# The method of `MultiHeadAttention` that receives the scores before the softmax. Without it, `:raw_scores` fails.
MASKED_SOFTMAX = "_masked_softmax"


@contextlib.contextmanager
def without_flash_attention(attention: keras.layers.MultiHeadAttention) -> Iterator[None]:
    """Disables the fused kernel of an attention layer, with which Keras cannot return scores.

    Without this, `:scores` fails on GPUs that support that kernel.
    """
    flash, attention._flash_attention = attention._flash_attention, False
    try:
        yield
    finally:
        attention._flash_attention = flash


@dataclasses.dataclass(frozen=True, eq=False)
class AttentionParts:
    """What `MultiHeadAttention` computes from the projections of queries, keys and values.

    Attributes:
        method: the name of the method that does.
        scores_equation, context_equation: of keys and queries, and of probabilities and values.
        query_scale: the number by which queries are multiplied.
        dropout: the layer after the softmax.
        causal_mask: a function of queries and values.
    """

    method: str
    scores_equation: str
    context_equation: str
    query_scale: float
    dropout: keras.layers.Layer
    causal_mask: Any


def attention_parts(attention: keras.layers.MultiHeadAttention) -> AttentionParts:
    """How a built attention layer goes from projections to the context.

    Without this, the tensors inside attention cannot be rounded as an integer file rounds them.
    """
    return AttentionParts(
        "_compute_attention",
        attention._dot_product_equation,
        attention._combine_equation,
        attention._inverse_sqrt_key_dim,
        attention._dropout_layer,
        attention._compute_causal_mask,
    )


# Training.


def compiled_loss(model: keras.Model) -> Any:
    """The result of `compile(loss=...)`, or None. Without this, a distiller cannot train the student on labels."""
    return model._compile_loss


def compiled_metrics(model: keras.Model) -> Any:
    """The result of `compile(metrics=...)`, or None. Without this, metrics fail if no batch has labels."""
    return model._compile_metrics


def forget_compilation(model: keras.Model) -> None:
    """Undoes `compile`, for a model that is only saved from now on.

    Keras has no way to save a compiled model without what it was compiled with. Without this the file of a model that
    was trained with a loss of this package loads only where this package is imported.
    """
    model.compiled = False
    model.optimizer = None


@contextlib.contextmanager
def uncompiled(model: keras.Model) -> Iterator[None]:
    """Inside the `with` block, a model has not been compiled: a file saved there holds the model and nothing else.

    Without this, a file that is saved during a training contains its loss and optimizer, as for `forget_compilation`.
    """
    kept = model.compiled, getattr(model, "optimizer", None)
    forget_compilation(model)
    try:
        yield
    finally:
        model.compiled, model.optimizer = kept


def optimized_variables(optimizer: keras.optimizers.Optimizer) -> list[Any]:
    """The variables that a built optimizer has slots for.

    Without this, layers that are unfrozen during a training end in an error of the optimizer.
    """
    return list(getattr(optimizer, "inner_optimizer", optimizer)._trainable_variables)


def update_fewer_variables(model: keras.Model) -> None:
    """Lets the compiled step of a model on JAX update fewer variables than its optimizer has slots for.

    `Optimizer.apply` accepts some of the variables that the optimizer was built with, `stateless_apply` none but all of
    them. Without this, no layer can be unfrozen during a training on JAX.
    """
    if keras.backend.backend() != "jax":
        return
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)

    def stateless_apply(optimizer_variables, grads, trainable_variables):
        slots, trained = optimizer.variables, model.trainable_variables
        values = [*zip(trained, trainable_variables, strict=True), *zip(slots, optimizer_variables, strict=True)]
        with keras.StatelessScope(state_mapping=values) as scope:
            optimizer.apply(grads, trained)
        return [scope.get_current_value(one) for one in trained], [scope.get_current_value(one) for one in slots]

    optimizer.stateless_apply = stateless_apply


def clear_losses(model: keras.layers.Layer) -> None:
    """Clears the losses added by layers; inside a `keras.StatelessScope`, those of that scope.

    Keras identifies them by `id`, which a later tensor may reuse. Without this, such a loss counts twice on JAX.
    """
    model._clear_losses()


def set_initial_epoch(model: keras.Model, epoch: int | None) -> None:
    """Sets the first epoch of a running `fit`; None keeps its argument.

    A callback cannot change the arguments of `fit`. Without this, a resumed training repeats its epochs.
    """
    model._initial_epoch = epoch


def loss_settings(loss: Any) -> dict[str, Any]:
    """The settings that a Keras loss passes to its function; empty for other losses.

    Some losses omit them from their config. Without this, `Huber(delta=2)` is reloaded with `delta=1`.
    """
    return dict(getattr(loss, "_fn_kwargs", {}))


def has_learning_rate_schedule(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether a schedule sets the learning rate; the public property returns only the value at the current step."""
    rate = getattr(optimizer, "_learning_rate", None)
    return isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)


# The private state that Keras' callbacks keep between epochs. Without it, a resumed `ModelCheckpoint` counts batches
# from zero, and `SwapEMAWeights` swaps in the wrong direction.
PRIVATE_STATE: dict[type, tuple[str, ...]] = {
    keras.callbacks.ModelCheckpoint: ("_current_epoch", "_last_batch_seen", "_batches_seen_since_last_saving"),
    keras.callbacks.SwapEMAWeights: ("_ema_weights_in_model",),
}


def array_inputs(adapter: Any) -> list[Any] | None:
    """The arrays of an array adapter; None for any other adapter.

    Without this, `Resume` cannot detect that the data differ.
    """
    arrays = getattr(adapter, "_inputs", None)
    return None if arrays is None else [array for array in keras.tree.flatten(arrays) if array is not None]


def array_shuffle(adapter: Any) -> Any:
    """The `shuffle` argument of an array adapter; True for any other adapter, which may shuffle."""
    return getattr(adapter, "_shuffle", True)


def data_source(adapter: Any) -> Any:
    """The data set, `PyDataset` or loader that an adapter reads; the adapter itself if it has none."""
    names = ("_dataset", "py_dataset", "_dataloader")
    return next((getattr(adapter, name) for name in names if hasattr(adapter, name)), adapter)


def running_method() -> str | None:
    """`"fit"`, `"evaluate"` or `"predict"`, whichever of Keras' trainers is calling; None outside of them.

    A data adapter is not told which one reads it. Without this, `evaluate` would measure on the part of the examples
    that a curriculum allows first.
    """
    frame = sys._getframe(1)
    while frame is not None:
        is_trainer = frame.f_globals.get("__name__", "").startswith("keras.src.backend.")
        if is_trainer and frame.f_code.co_name in ("fit", "evaluate", "predict"):
            return frame.f_code.co_name
        frame = frame.f_back
    return None
