"""Rounds the tensors inside unrolled recurrent layers."""

from __future__ import annotations

import contextlib
from typing import Any

import keras
from keras import ops

from keras_kd.compression.quantization.inside import QuantizedInside, activation_name
from keras_kd.features.capture import replaced
from keras_kd.serialization import register


class InsideRecurrent(QuantizedInside):
    """Rounds the projections, gates and states of an unrolled layer; all time steps share the ranges."""

    @contextlib.contextmanager
    def around(self, layer, *, training):
        observed: dict[str, list[Any]] = {name: [] for name in self.quantizers}

        def rounding(name):
            def rounded(value):
                observed[name].append(value)
                return self.quantizers[name](value, training=False)

            return rounded

        rounded = {name: rounding(name) for name in self.quantizers}

        def call(inputs, states, training=False):
            return self.step(layer.cell, rounded, inputs, states, training)

        fused, layer.use_cudnn = layer.use_cudnn, False
        try:
            with replaced(layer.cell, "call", lambda original: call):
                yield
        finally:
            layer.use_cudnn = fused
        if training:
            for name, values in observed.items():
                self.quantizers[name].follow(values)

    def step(self, cell: Any, rounded: Any, inputs: Any, states: Any, training: bool) -> tuple[Any, list[Any]]:
        """One time step: the output and the new states."""
        raise NotImplementedError


def _dropped(cell: Any, inputs: Any, state: Any, training: bool) -> tuple[Any, Any]:
    """Inputs and state after dropout, with one mask for all gates."""
    if training and 0.0 < cell.dropout < 1.0:
        inputs = inputs * _mask(cell.get_dropout_mask(inputs))
    if training and 0.0 < cell.recurrent_dropout < 1.0:
        state = state * _mask(cell.get_recurrent_dropout_mask(state))
    return inputs, state


def _mask(masks: Any) -> Any:
    return masks[0] if isinstance(masks, (list, tuple)) else masks


@register
class InsideLSTM(InsideRecurrent):
    """The tensors inside an unrolled `LSTM`."""

    @classmethod
    def fits(cls, layer):
        return type(layer) is keras.layers.LSTM and layer.unroll

    @classmethod
    def tensors(cls, layer):
        gate, content = activation_name(layer.recurrent_activation), activation_name(layer.activation)
        names = dict.fromkeys(("from_inputs", "from_state", "sums", "kept", "added", "carry", "state"))
        return names | {"gates": gate, "content": content, "carry_content": content}

    def step(self, cell, rounded, inputs, states, training):
        state, carry = states
        inputs, state = _dropped(cell, inputs, state, training)
        from_inputs = ops.matmul(inputs, cell.kernel)
        if cell.use_bias:
            from_inputs = ops.add(from_inputs, cell.bias)
        from_inputs = rounded["from_inputs"](from_inputs)
        from_state = rounded["from_state"](ops.matmul(state, cell.recurrent_kernel))
        sums = rounded["sums"](ops.add(from_inputs, from_state))
        # Slices, since the converter drops the gate that is multiplied by 0 in the first step, and a split stays float.
        i, f, c, o = (sums[:, gate * cell.units : (gate + 1) * cell.units] for gate in range(4))
        i, f, o = (rounded["gates"](cell.recurrent_activation(value)) for value in (i, f, o))
        added = rounded["added"](i * rounded["content"](cell.activation(c)))
        carry = rounded["carry"](rounded["kept"](f * carry) + added)
        state = rounded["state"](o * rounded["carry_content"](cell.activation(carry)))
        return state, [state, carry]


@register
class InsideGRU(InsideRecurrent):
    """The tensors inside an unrolled `GRU`."""

    @classmethod
    def fits(cls, layer):
        return type(layer) is keras.layers.GRU and layer.unroll

    @classmethod
    def tensors(cls, layer):
        gate, content = activation_name(layer.recurrent_activation), activation_name(layer.activation)
        names = ("from_inputs", "from_state", "sums", "reset", "content_sums", "kept", "rest", "added", "state")
        projected = () if layer.reset_after else ("from_reset",)
        return dict.fromkeys((*names, *projected)) | {"gates": gate, "content": content}

    def step(self, cell, rounded, inputs, states, training):
        before = states[0] if keras.tree.is_nested(states) else states
        inputs, state = _dropped(cell, inputs, before, training)
        units, kernel = cell.units, ops.convert_to_tensor(cell.recurrent_kernel)
        bias = recurrent_bias = None
        if cell.use_bias:
            bias = ops.convert_to_tensor(cell.bias)
            bias, recurrent_bias = (bias[0], bias[1]) if cell.reset_after else (bias, None)
        projected = ops.matmul(inputs, cell.kernel)
        projected = rounded["from_inputs"](projected if bias is None else ops.add(projected, bias))
        first, last = projected[:, : 2 * units], projected[:, 2 * units :]
        inner = ops.matmul(state, kernel if cell.reset_after else kernel[:, : 2 * units])
        inner = rounded["from_state"](inner if recurrent_bias is None else ops.add(inner, recurrent_bias))
        sums = rounded["sums"](ops.add(first, inner[:, : 2 * units]))
        update, reset = ops.split(rounded["gates"](cell.recurrent_activation(sums)), 2, axis=1)
        if cell.reset_after:
            content = rounded["reset"](reset * inner[:, 2 * units :])
        else:
            content = rounded["from_reset"](ops.matmul(rounded["reset"](reset * state), kernel[:, 2 * units :]))
        content = rounded["content"](cell.activation(rounded["content_sums"](ops.add(last, content))))
        kept = rounded["kept"](update * before)
        after = rounded["state"](ops.add(kept, rounded["added"](rounded["rest"](1.0 - update) * content)))
        return after, [after] if keras.tree.is_nested(states) else after
