"""Models of every kind that can be read as a graph, small enough to build quickly."""

import keras
import numpy as np

import keras_kd as kd

L = keras.layers


def sequential():
    return keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(4, 3), L.BatchNormalization(), L.ReLU(), L.Flatten()])


def sequential_inside():
    x = keras.Input((6,), name="x")
    body = keras.Sequential([keras.Input((6,)), L.Dense(4, name="inner"), L.Dropout(0.5)], name="body")
    return keras.Model(x, L.Dense(2, name="outer")(body(x)))


def nested_three_deep():
    def around(inner, name):
        x = keras.Input((6,))
        return keras.Model(x, L.Dense(6, activation="tanh", name="dense")(inner(x)), name=name)

    return around(around(around(L.Dense(6, name="core"), "third"), "second"), "first")


def shared():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    tower = L.Dense(3, name="tower")
    return keras.Model([a, b], L.Subtract()([tower(a), tower(b)]))


def shared_across_models():
    """A layer shared between a nested model and its outer model."""
    dense = L.Dense(4, name="shared")
    inner = keras.Input((4,))
    body = keras.Model(inner, L.ReLU()(dense(inner)), name="body")
    x = keras.Input((4,))
    return keras.Model(x, L.Add()([body(x), dense(x), body(dense(x))]))


def several_outputs():
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    joined = L.Concatenate()([L.Dense(3)(a), b])
    outputs = {"digit": L.Dense(5, name="digit")(joined), "boxes": [L.Dense(2, name="box")(joined), joined]}
    return keras.Model({"a": a, "b": b}, outputs)


def bare_operations():
    x = keras.Input((4, 6), name="x")
    y = keras.ops.concatenate([x[:, 0], keras.ops.mean(x, axis=1) * 2.0 + 1.0], axis=-1)
    y = y - keras.ops.convert_to_tensor(np.arange(12.0, dtype="float32"))
    return keras.Model(x, keras.ops.softmax(L.Dense(3)(y)))


def keyword_arguments():
    x = keras.Input((5, 8), name="x")
    attention = L.MultiHeadAttention(2, 4, name="attention")
    y, scores = attention(query=x, value=x, return_attention_scores=True)
    y = L.BatchNormalization()(y, training=False)
    return keras.Model(x, [L.LayerNormalization()(x + y), scores])


def masked():
    tokens = keras.Input((7,), dtype="int32", name="tokens")
    y = L.Embedding(20, 6, mask_zero=True)(tokens)
    y = L.MultiHeadAttention(2, 3)(y, y)
    y = L.Bidirectional(L.GRU(4, return_sequences=True), name="both")(y)
    return keras.Model(tokens, L.Dense(2)(L.GlobalAveragePooling1D()(L.LSTM(5, return_sequences=True)(y))))


def mixed_precision():
    policy = "mixed_bfloat16"
    body = keras.Sequential([keras.Input((6,), dtype="float32"), L.Dense(4, dtype=policy)], name="body")
    x = keras.Input((6,), name="x")
    return keras.Model(x, L.Dense(2, dtype="float32")(L.Dense(6, dtype=policy)(body(x))))


def adapted():
    """State outside the weights: constants computed from weights, and tables."""
    scale, lookup = L.Normalization(name="scale"), L.IntegerLookup(output_mode="multi_hot", name="lookup")
    scale.adapt(np.random.default_rng(0).normal(5.0, 3.0, (50, 4)))
    lookup.adapt(np.array([3, 5, 9]))
    numbers, ids = keras.Input((4,), name="numbers"), keras.Input((3,), dtype="int64", name="ids")
    return keras.Model([numbers, ids], L.Dense(2)(L.Concatenate()([scale(numbers), lookup(ids)])))


def optional_and_wrapped():
    x = keras.Input((4, 6), name="x")
    y = L.TimeDistributed(keras.Sequential([L.Dense(5), L.ReLU()]))(x)
    return keras.Model(x, L.Lambda(lambda t: t[:, -1] * 2.0)(y))


def application(name, **settings):
    def make():
        make_model = getattr(keras.applications, name)
        return make_model(weights=None, input_shape=(32, 32, 3), classes=5, **settings)

    return make


MODELS = {
    make.__name__: make
    for make in (
        *(sequential, sequential_inside, nested_three_deep, shared, shared_across_models, several_outputs),
        *(bare_operations, keyword_arguments, masked, mixed_precision, adapted, optional_and_wrapped),
    )
}
MODELS["digits_cnn"] = lambda: kd.models.resnet8((16, 16, 3), 4)
MODELS["MobileNetV2"] = application("MobileNetV2", alpha=0.35)
MODELS["EfficientNetB0"] = application("EfficientNetB0")
LARGE = {"DenseNet121": application("DenseNet121"), "ResNet50V2": application("ResNet50V2")}


def inputs_of(model, rows=3):
    """Random inputs in the structure of the model's inputs."""
    rng = np.random.default_rng(1)

    def random(tensor):
        shape = (rows, *tensor.shape[1:])
        return rng.integers(0, 10, shape) if "int" in tensor.dtype else rng.normal(size=shape).astype("float32")

    return keras.tree.map_structure(random, model.inputs[0] if isinstance(model, keras.Sequential) else model.input)


def shake(model):
    """Assigns random weights, so that no copy is equal by chance."""
    rng = np.random.default_rng(0)
    fixed = {id(weight) for layer in model._flatten_layers() if hasattr(layer, "adapt") for weight in layer.weights}
    for weight in model.weights:
        if id(weight) not in fixed:
            weight.assign(rng.uniform(0.1, 0.3, weight.shape))
    return model
