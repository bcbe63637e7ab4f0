"""The Keras internals that this package uses still behave as assumed."""

import ast
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_kd
from keras_kd import keras_private

L = keras.layers
PACKAGE = Path(keras_kd.__file__).parent
PUBLIC = {"_replace", "_asdict", "_fields", "_make", "_exit", "_getframe"}  # from namedtuples, `os` and `sys`
NOT_KERAS = {"_get_ops_details", "_subgraph_index"}  # from the LiteRT interpreter


def model():
    x = keras.Input((4,), name="x")
    y = L.Dense(3, name="dense")(x)
    body = keras.Sequential([keras.Input((3,)), L.Dense(2, name="inside")], name="body")
    return keras.Model(x, keras.ops.add(body(y), 1.0))


# Layers.


def test_all_layers_are_found_at_any_depth():
    wrapped = L.TimeDistributed(L.Dense(2, name="wrapped"))
    names = [layer.name for layer in keras_private.all_layers(keras.Sequential([keras.Input((3, 4)), wrapped]))]
    assert "wrapped" in names
    assert {"dense", "body", "inside"} <= {layer.name for layer in keras_private.all_layers(model())}


def test_inner_layers_are_one_level():
    built = model()
    assert [layer.name for layer in keras_private.inner_layers(built)][:3] == ["x", "dense", "body"]
    assert keras_private.holds_layers(built.get_layer("body"))
    assert not keras_private.holds_layers(built.get_layer("dense"))


def test_an_inner_layer_is_replaced_and_no_longer_tracked():
    both, new = L.Bidirectional(L.GRU(2)), L.GRU(2, name="new")
    keras_private.replace_inner_layer(both, both.forward_layer, new)
    both.build((None, 3, 4))
    assert both.forward_layer is new and keras_private.inner_layers(both) == [new, both.backward_layer]
    assert len(both.weights) == 6


def test_bookkeeping_attributes_are_distinguished_from_layer_names():
    class Own(L.Layer):
        def __init__(self):
            super().__init__()
            self.stem = L.Dense(2)

    held = {
        name: keras.tree.flatten(value) for name, value in vars(Own()).items() if isinstance(value, (list, L.Layer))
    }
    holders = [name for name, values in held.items() if any(isinstance(value, L.Layer) for value in values)]
    assert len(holders) > 1
    assert [name for name in holders if not keras_private.is_bookkeeping(name)] == ["stem"]


def test_the_trainable_flag_is_set_for_one_layer_only():
    built = model()
    keras_private.set_trainable_flag(built, False)
    assert not built.trainable and built.trainable_variables == []
    assert built.get_layer("dense").trainable and built.get_layer("dense").kernel.trainable


# The graph.


def test_a_tensor_leads_back_to_the_call_that_made_it():
    built = model()
    call, index = keras_private.call_that_made(built.outputs[0])
    assert (type(call.operation).__name__, index) == ("Add", 0)
    assert call.args[1:] == (1.0,) or call.kwargs.get("x2") == 1.0
    assert keras_private.call_that_made(call.inputs[0])[0].operation is built.get_layer("body")
    assert keras_private.call_that_made(built.inputs[0])[0].inputs == ()


def test_calls_are_in_topological_order():
    calls = keras_private.calls_of(model())
    assert [call.operation.name for call in calls][:2] == ["dense", "body"]
    assert all(any(tensor is made for made in calls[0].outputs) for tensor in calls[1].inputs)


def test_a_copied_operation_has_no_calls_and_computes_the_same():
    original = keras_private.calls_of(model())[-1].operation
    copy = keras_private.copy_operation(original)
    copy(keras.KerasTensor((None, 2)), 2.0)
    assert len(original._inbound_nodes) == 1 and len(copy._inbound_nodes) == 1 and copy.name == original.name
    np.testing.assert_array_equal(copy(np.ones(2), 2.0), [3.0, 3.0])


# Tensors.


def test_the_mask_of_a_layer_can_be_read():
    tensor = L.Embedding(3, 2, mask_zero=True)(np.array([[1, 0]]))
    assert np.asarray(keras_private.keras_mask(tensor)).tolist() == [[True, False]]
    other = keras.ops.ones((1, 2))
    assert keras_private.keras_mask(other) is None
    keras_private.set_keras_mask(other, keras_private.keras_mask(tensor))
    np.testing.assert_array_equal(L.GlobalAveragePooling1D()(other[..., None]), [[1.0]])
    assert keras_private.keras_mask(other) is keras_private.keras_mask(tensor)


def test_added_losses_are_cleared():
    class Adding(L.Layer):
        def call(self, inputs):
            self.add_loss(keras.ops.sum(inputs))
            return inputs

    built = keras.Sequential([keras.Input((2,)), Adding()])
    built(np.ones((1, 2), "float32"))
    assert len(built.losses) == 1
    keras_private.clear_losses(built)
    assert built.losses == []


# Attention.


def test_scores_enter_the_softmax_through_this_method(monkeypatch):
    attention, x, seen = L.MultiHeadAttention(2, 3), np.ones((1, 4, 6), "float32"), []
    attention(x, x)
    method = getattr(attention, keras_private.MASKED_SOFTMAX)
    monkeypatch.setattr(attention, keras_private.MASKED_SOFTMAX, lambda *a, **k: seen.append(a[0]) or method(*a, **k))
    attention(x, x, return_attention_scores=True)
    assert tuple(seen[0].shape) == (1, 2, 4, 4)


def test_flash_attention_is_disabled_temporarily():
    attention, x = L.MultiHeadAttention(2, 3, flash_attention=True), np.ones((1, 4, 6), "float32")
    attention.build(x.shape, x.shape)
    with keras_private.without_flash_attention(attention):
        attention(x, x, return_attention_scores=True)
    with pytest.raises(ValueError, match="flash"):
        attention(x, x, return_attention_scores=True)


def test_attention_is_computed_from_its_parts(monkeypatch):
    attention, x = L.MultiHeadAttention(2, 3), np.random.default_rng(0).normal(size=(1, 4, 6)).astype("float32")
    expected = attention(x, x, use_causal_mask=True)
    parts = keras_private.attention_parts(attention)

    def attend(query, key, value, *_):
        scores = keras.ops.einsum(parts.scores_equation, key, query * parts.query_scale)
        mask = parts.causal_mask(query, value)
        kept = parts.dropout(getattr(attention, keras_private.MASKED_SOFTMAX)(scores, mask))
        return keras.ops.einsum(parts.context_equation, kept, value), None

    monkeypatch.setattr(attention, parts.method, attend)
    np.testing.assert_allclose(attention(x, x), expected, atol=1e-6)


# Training.


def test_a_model_that_forgets_its_compilation_is_saved_without_it(tmp_path):
    built = keras.Sequential([keras.Input((3,)), L.Dense(2)])
    built.compile("adam", "mse")
    built.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    keras_private.forget_compilation(built)
    built.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert not again.compiled
    np.testing.assert_array_equal(again.get_weights()[0], built.get_weights()[0])


def test_a_model_is_uncompiled_for_a_while(tmp_path):
    built = keras.Sequential([keras.Input((3,)), L.Dense(2)])
    built.compile("adam", "mse")
    built.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    optimizer = built.optimizer
    with keras_private.uncompiled(built):
        built.save(tmp_path / "m.keras")
    assert not keras.models.load_model(tmp_path / "m.keras").compiled
    assert built.compiled and built.optimizer is optimizer
    built.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    assert int(optimizer.iterations) == 2


def test_an_optimizer_with_more_slots_than_trained_variables():
    """`apply` takes some of the variables; on JAX `stateless_apply` must be made to."""
    built = keras.Sequential([keras.Input((3,)), L.Dense(2, name="a"), L.Dense(2, name="b")])
    built.compile("adam", "mse", run_eagerly=True)
    built.optimizer.build(built.trainable_variables)
    built.get_layer("a").trainable = False
    known = keras_private.optimized_variables(built.optimizer)
    assert len(known) == 4 and len(built.trainable_variables) == 2
    before = built.get_weights()
    keras_private.update_fewer_variables(built)
    built.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    moved = [bool((one != other).any()) for one, other in zip(before, built.get_weights(), strict=True)]
    assert moved == [False, False, True, True]


def test_compiled_loss_and_metrics():
    built = model()
    assert keras_private.compiled_loss(built) is None and keras_private.compiled_metrics(built) is None
    built.compile(loss="mse", metrics=["mae"])
    value = keras_private.compiled_loss(built)(np.zeros((1, 2)), np.full((1, 2), 3.0))
    assert float(value) == 9.0 and not keras_private.compiled_metrics(built).built


class Jump(keras.callbacks.Callback):
    """Jumps to an epoch when training begins, and records the epochs that follow."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch, self.seen = epoch, []

    def on_train_begin(self, logs=None):
        keras_private.set_initial_epoch(self.model, self.epoch)

    def on_epoch_begin(self, epoch, logs=None):
        self.seen.append(epoch)


def test_a_callback_can_move_the_initial_epoch():
    built, jump = model(), Jump(2)
    built.compile(loss="mse", optimizer="sgd")
    built.fit(np.zeros((4, 4)), np.zeros((4, 2)), epochs=4, verbose=0, callbacks=[jump])
    assert jump.seen == [2, 3]


@pytest.mark.parametrize(("loss", "settings"), [(keras.losses.Huber(delta=2.0), {"delta": 2.0}), (None, {})])
def test_the_settings_of_a_loss(loss, settings):
    assert settings.items() <= keras_private.loss_settings(loss).items()


def test_a_learning_rate_schedule_is_detected():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    assert keras_private.has_learning_rate_schedule(keras.optimizers.SGD(schedule))
    assert not keras_private.has_learning_rate_schedule(keras.optimizers.SGD(0.1))


@pytest.mark.parametrize(
    "callback", [keras.callbacks.ModelCheckpoint("best.keras", save_freq=3), keras.callbacks.SwapEMAWeights()]
)
def test_the_private_state_of_callbacks_exists(callback):
    callback.on_epoch_begin(0)
    assert all(hasattr(callback, name) for name in keras_private.PRIVATE_STATE[type(callback)])


# Data.


def test_the_arrays_of_an_adapter_can_be_read():
    x, y = np.zeros((4, 2)), np.ones(4)
    adapter = keras_private.ArrayDataAdapter(x, y, batch_size=2, shuffle=False)
    assert isinstance(adapter, keras_private.DataAdapter)
    assert [array.shape for array in keras_private.array_inputs(adapter)] == [(4, 2), (4,)]
    assert keras_private.array_shuffle(adapter) is False
    assert keras_private.array_inputs(object()) is None and keras_private.array_shuffle(object()) is True


def test_the_source_of_an_adapter():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return np.zeros((2, 2)), np.zeros(2)

    batches = Batches()
    iterator = keras_private.EpochIterator(batches)
    assert keras_private.data_source(iterator.data_adapter) is batches
    assert keras_private.data_source(iterator) is iterator


def test_arrays_are_recognized_and_split():
    x = np.arange(8.0)
    assert keras_private.can_convert_arrays((x, None, None)) and not keras_private.can_convert_arrays((iter(x),))
    (train,), (validation,) = keras_private.train_validation_split((x,), validation_split=0.25)
    np.testing.assert_array_equal(train, x[:6])
    np.testing.assert_array_equal(validation, x[6:])


def test_safe_mode_is_known_while_a_file_is_loaded(tmp_path):
    seen = []

    @keras.saving.register_keras_serializable("test_keras_private")
    class Asks(L.Layer):
        @classmethod
        def from_config(cls, config):
            seen.append(keras_private.in_safe_mode())
            return cls(**config)

    keras.Sequential([keras.Input((2,)), Asks()]).save(tmp_path / "asks.keras")
    keras.models.load_model(tmp_path / "asks.keras", safe_mode=False)
    assert seen == [False]


# No other module reads private names.


def own_names(tree):
    """The underscored names that a file defines: functions, classes, attributes of `self`, fields, module constants."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and owner(node) == "self":
            yield node.attr


def owner(node):
    return node.value.id if isinstance(node.value, ast.Name) else None


def looks_inside(tree, of_package):
    """The private names that a file reads, except its own and, through `self`, the package's."""
    here = set(own_names(tree)) | PUBLIC | NOT_KERAS
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            known = here | of_package if owner(node) in ("self", "cls") else here
            if node.attr not in known:
                yield node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "id", None) in ("getattr", "hasattr", "setattr"):
            name = getattr(node.args[1], "value", None)
            if isinstance(name, str) and is_private(name) and name not in here:
                yield name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [getattr(node, "module", None), *(alias.name for alias in node.names)]
            yield from (module for module in modules if module and module.startswith("keras.src"))


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name != "_"


def test_nothing_else_in_the_package_reads_private_names():
    trees = {path.relative_to(PACKAGE): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}
    of_package = {name for tree in trees.values() for name in own_names(tree)}
    found = {str(path): sorted(set(looks_inside(tree, of_package))) for path, tree in trees.items()}
    assert {path: names for path, names in found.items() if names and path != "keras_private.py"} == {}


@pytest.mark.parametrize(
    "code",
    [
        "from keras.src.ops import node",
        "import keras.src.backend",
        "model._flatten_layers()",
        "getattr(loss, '_fn_kwargs', {})",
        "class Net(keras.Model):\n    def f(self):\n        return self._tracker",
    ],
)
def test_such_reads_are_detected(code):
    assert list(looks_inside(ast.parse(code), set()))


def test_each_entry_is_used():
    """Unused entries must be removed."""
    code = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py") if path.name != "keras_private.py")
    assert [name for name in keras_private.__all__ if name not in code] == []


def test_variables_are_limited_before_they_take_memory():
    with keras_private.limited_variables(20):
        L.Dense(3).build((None, 4))
        with pytest.raises(ValueError, match="larger than the stored weights"):
            L.Dense(10**12, use_bias=False).build((None, 4))
    L.Dense(30).build((None, 4))


def test_the_running_method_is_known_to_an_adapter():
    seen = []

    class Adapter(keras_private.DataAdapter):
        num_batches, batch_size, has_partial_batch, partial_batch_size = 1, 2, False, 0

        def get_numpy_iterator(self):
            yield np.zeros((2, 4), "float32"), np.zeros((2, 1), "float32")

        get_jax_iterator = get_numpy_iterator

        def get_tf_dataset(self):
            import tensorflow as tf

            pair = tuple(tf.TensorSpec((None, size), tf.float32) for size in (4, 1))
            return tf.data.Dataset.from_generator(self.get_numpy_iterator, output_signature=pair)

        def on_epoch_begin(self):
            seen.append(keras_private.running_method())

    dense = keras.Sequential([keras.Input((4,)), L.Dense(1)])
    dense.compile(loss="mse", run_eagerly=True)
    for method in (dense.fit, dense.evaluate, dense.predict):
        method(Adapter(), verbose=0)
    assert seen == ["fit", "evaluate", "predict"] and keras_private.running_method() is None
