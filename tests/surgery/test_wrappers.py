"""Layers inside wrappers are copied, replaced and reached by path; a replaced model is restored by a second clone."""

import re

import keras
import numpy as np
import pytest
from model_table import inputs_of, shake

from keras_kd.errors import ConfigurationError
from keras_kd.surgery import carry_weights, clone, copy_layer, layers_by_path

L = keras.layers


class Masked(L.Wrapper):
    """Calls a layer, as magnitude pruning does, and keeps a mask for its first weight."""

    def build(self, *args, **kwargs):
        self.mask = self.add_weight(shape=self.layer.weights[0].shape, initializer="ones", trainable=False, name="mask")

    def call(self, *args, **kwargs):
        return self.layer(*args, **kwargs)


class MaskedDense(Masked):
    """The same with what `TimeDistributed` and `SpectralNormalization` need."""

    @property
    def kernel(self):
        return self.layer.kernel

    def call(self, inputs):
        return self.layer(inputs)

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)


class MaskedCell(Masked):
    """The same for the cell of a recurrent layer."""

    @property
    def state_size(self):
        return self.layer.state_size

    def get_initial_state(self, batch_size=None):
        return self.layer.get_initial_state(batch_size)

    def call(self, inputs, states, training=False):
        return self.layer(inputs, states, training=training)


class Residual(L.Layer):
    """A custom layer that describes the layer inside it, and has a weight of its own."""

    def __init__(self, inner, **settings):
        super().__init__(**settings)
        self.inner = inner

    def build(self, shape):
        if not self.inner.built:
            self.inner.build(shape)
        self.scale = self.add_weight(shape=(), name="scale")

    def call(self, x):
        return x + self.scale * self.inner(x)

    def get_config(self):
        return {**super().get_config(), "inner": keras.saving.serialize_keras_object(self.inner)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("inner")), **config)


CUSTOM = {kind.__name__: kind for kind in (Masked, MaskedDense, MaskedCell, Residual)}
CELLS = (L.LSTMCell, L.GRUCell)
HOLDERS = (L.Dense, L.Conv1D, L.DepthwiseConv1D, L.Embedding, L.MultiHeadAttention, L.LSTM, L.GRU, *CELLS)


def mixed():
    """Every kind of layer with a kernel: in the graph, in nested models, in wrappers, in cells; some twice."""
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    shared = L.Dense(8, name="shared")
    y = L.Embedding(12, 8, name="embedding")(tokens)
    y = L.Conv1D(8, 3, padding="same", name="conv")(y)
    body = keras.Sequential([keras.Input((6, 8)), L.DepthwiseConv1D(3, padding="same", name="depthwise"), L.ReLU()])
    y = L.TimeDistributed(shared, name="each")(shared(body(y)))
    y, scores = L.MultiHeadAttention(2, 4, name="attention")(y, y, return_attention_scores=True)
    y = L.TimeDistributed(keras.Sequential([keras.Input((8,)), L.Dense(8, name="deep")], name="inside"), name="model")(
        y
    )
    y = Residual(L.Dense(8, name="kernel"), name="residual")(y)
    y, *state = L.LSTM(5, return_sequences=True, return_state=True, name="lstm")(y)
    y = L.Bidirectional(L.GRU(4, return_sequences=True), name="both")(y)
    y = L.RNN(L.StackedRNNCells([L.LSTMCell(4), L.GRUCell(3)]), name="stack")(y)
    y = L.SpectralNormalization(L.Dense(3, name="last"), name="spectral")(y)
    return shake(keras.Model(tokens, {"classes": y, "scores": scores, "state": state}, name="mixed"))


def wrapped(layer):
    if not isinstance(layer, HOLDERS) or (isinstance(layer, L.GRU) and "ward_" in layer.name):
        return None
    inner = copy_layer(layer)
    inner.build_from_config(layer.get_build_config())
    kind = MaskedCell if isinstance(layer, CELLS) else MaskedDense if isinstance(layer, L.Dense) else Masked
    return kind(inner)


def unwrapped(layer):
    return copy_layer(layer.layer) if isinstance(layer, Masked) else None


def wrap(model):
    return clone(model, wrapped, transfer=lambda original, new: carry_weights(original, new.layer))


def unwrap(model):
    return clone(model, unwrapped, transfer=lambda original, new: carry_weights(original.layer, new))


def architecture(model):
    """The configuration, without numbers of tensors, shapes of builds, and arguments that are None."""

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items() if key != "build_config" and item is not None}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return re.sub(r"^keras_tensor_\d+$", "tensor", value) if isinstance(value, str) else value

    return plain(model.get_config())


def assert_equal(one, other):
    keras.tree.map_structure(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), one, other)


def test_every_kernel_is_wrapped_and_unwrapped_again(tmp_path):
    model = mixed()
    inputs = inputs_of(model)
    expected = model(inputs)
    copy = wrap(model)
    by_path = layers_by_path(copy)
    places = {path for path, layer in by_path.items() if isinstance(layer, Masked)}
    assert places == {
        *("embedding", "conv", "shared", "each/layer", "attention", "model/layer/deep", "residual/inner", "lstm"),
        *("stack/cell/cells/0", "stack/cell/cells/1", "spectral/layer"),
        f"{model.layers[3].name}/depthwise",
    }
    assert by_path["each/layer"] is by_path["shared"]
    assert len(copy.weights) == len(model.weights) + len(places) - 1
    assert_equal(copy(inputs), expected)
    for weight in copy.weights:
        weight.assign(weight * 0.5)
    assert_equal(model(inputs), expected)

    copy = wrap(model)
    back = unwrap(copy)
    assert architecture(back) == architecture(model)
    assert [weight.path for weight in back.weights] == [weight.path for weight in model.weights]
    assert_equal(back.get_weights(), model.get_weights())
    assert_equal(back(inputs), expected)

    copy.save(tmp_path / "wrapped.keras")
    again = keras.models.load_model(tmp_path / "wrapped.keras", custom_objects=CUSTOM)
    assert_equal(again(inputs), expected)
    assert_equal(unwrap(again)(inputs), expected)


class Adapted(L.Layer):
    """A custom layer that describes the layer inside it, and makes others for itself."""

    def __init__(self, inner, **settings):
        super().__init__(**settings)
        self.inner = inner
        self.adapter, self.scales = L.Dense(3), [L.Dense(3, name="first"), L.Dense(3, name="second")]

    def call(self, inputs):
        return self.scales[1](self.scales[0](self.adapter(self.inner(inputs))))

    def get_config(self):
        return super().get_config() | {"inner": keras.saving.serialize_keras_object(self.inner)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("inner")), **config)


def test_layers_that_a_wrapper_makes_for_itself_keep_their_state():
    model = keras.Sequential([keras.Input((3,)), Adapted(L.Dense(3, name="inner"))])
    shake(model)
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    with keras.saving.custom_object_scope({"Adapted": Adapted}):
        copy = clone(model)
    np.testing.assert_array_equal(copy(x), model(x))


class OwnGRU(L.GRU):
    pass


def test_both_directions_are_replaced_by_path():
    x = keras.Input((5, 3))
    model = shake(keras.Model(x, L.Bidirectional(L.GRU(4, return_sequences=True), name="both")(L.Masking()(x))))
    settings = {"units": 4, "return_sequences": True}
    new = {"both/forward_layer": OwnGRU(**settings), "both/backward_layer": OwnGRU(go_backwards=True, **settings)}
    copy = clone(model, new)
    inputs = inputs_of(model)
    inputs[1, 3:] = 0
    assert_equal(copy(inputs), model(inputs))
    both = copy.get_layer("both")
    assert [both.forward_layer, both.backward_layer] == list(new.values())
    assert sorted(map(id, both._flatten_layers(include_self=False, recursive=False))) == sorted(map(id, new.values()))
    assert len(copy.weights) == len(model.weights)


def test_only_one_direction_is_replaced():
    x = keras.Input((5, 3))
    model = shake(keras.Model(x, L.Bidirectional(L.GRU(4), name="both")(x)))
    copy = clone(model, {"both/backward_layer": OwnGRU(4, go_backwards=True)})
    assert_equal(copy(inputs_of(model)), model(inputs_of(model)))
    assert [type(layer) for layer in layers_by_path(copy.get_layer("both")).values()][::2] == [L.GRU, OwnGRU]


def test_a_layer_shared_with_a_wrapper_stays_shared():
    dense, x = L.Dense(4, name="dense"), keras.Input((3, 4))
    copy = clone(shake(keras.Model(x, L.TimeDistributed(dense, name="each")(dense(x)))))
    assert len(copy.weights) == 2 and copy.get_layer("each").layer is copy.get_layer("dense")


def test_frozen_parts_of_a_wrapper_stay_frozen():
    x = keras.Input((3, 4))
    model = keras.Model(x, Residual(L.Dense(4), name="residual")(x))
    model.get_layer("residual").inner.trainable = False
    copy = clone(model)
    assert [weight.name for weight in copy.trainable_weights] == ["scale"] and copy.get_layer("residual").trainable


# Sharing that a configuration does not show.


def tied(read):
    """A model whose output reads the embedding's weights again."""
    tokens = keras.Input((5,), dtype="int32")
    embedding = L.Embedding(10, 4, name="embedding")
    return shake(keras.Model(tokens, read(L.Dense(4, name="dense")(embedding(tokens)), embedding)))


def test_an_operation_reads_the_variable_of_the_copy():
    model = tied(lambda y, embedding: keras.ops.einsum("btd,vd->btv", y, embedding.embeddings))
    inputs = inputs_of(model)
    copy = clone(model)
    expected = np.asarray(model(inputs))
    assert_equal(copy(inputs), expected)
    copy.get_layer("embedding").embeddings.assign(np.zeros((10, 4)))
    assert not np.asarray(copy(inputs)).any()
    assert_equal(model(inputs), expected)


def in_a_lambda(y, embedding):
    return L.Lambda(lambda z: keras.ops.einsum("btd,vd->btv", z, embedding.embeddings), name="tied")(y)


class Tied(L.Layer):
    """Holds a layer of the model around it, and makes a new one when it is rebuilt."""

    def __init__(self, embedding=None, **settings):
        super().__init__(**settings)
        self.embedding = embedding or L.Embedding(10, 4, name="other")
        self.embedding.build(())

    def call(self, y):
        return keras.ops.einsum("btd,vd->btv", y, self.embedding.embeddings)

    def get_config(self):
        return {"name": self.name}


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (in_a_lambda, "Lambda layer 'tied' would use the weights of the original.*reads 'embedding' from outside"),
        (lambda y, e: Tied(e, name="tied")(y), "share weights that their copies would not.*embedding.*get_config"),
        (
            lambda y, e: keras.ops.add(y, keras.Variable(np.ones(4), name="free")),
            r"reads a variable of which the copy has no counterpart.*'free' of shape \(4,\)",
        ),
    ],
)
def test_weights_that_would_be_shared_wrongly_are_refused(read, message):
    with pytest.raises(ConfigurationError, match=message):
        clone(tied(read))
