"""Lottery-ticket rounds: masks from NumPy, rewound weights from a training by hand, and kills."""

import functools
import json

import keras
import numpy as np
import pytest

from keras_kd.chain import lottery_ticket, training
from keras_kd.chain.settings import plain
from keras_kd.compression import Pruning
from keras_kd.compression.stripping import reparametrized_layers
from keras_kd.data import Pipeline
from keras_kd.errors import ConfigurationError

layers = keras.layers
QUIET = {"compile": {"run_eagerly": True}, "progress": False, "optimizer": keras.optimizers.SGD(0.3, momentum=0.9)}


class Starts(keras.callbacks.Callback):
    """Records the kernels with which each training of a round starts; may kill it."""

    def __init__(self, killed_at=None):
        super().__init__()
        self.kernels, self.batches, self._killed_at = [], 0, killed_at

    def on_train_begin(self, logs=None):
        found = reparametrized_layers(getattr(self.model, "student", self.model)).values()
        if found:
            self.kernels.append([np.array(layer.effective_weights()["kernel"]) for layer in found])

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        if self.batches == self._killed_at:
            raise KeyboardInterrupt


def made():
    keras.utils.set_random_seed(4)
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, "relu", name="body"),
            layers.Dropout(0.1, seed=3),
            layers.Dense(3, name="head"),
        ]
    )


def arrays():
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 6)).astype("float32"), rng.integers(0, 3, 40)


def kernels(model):
    return [np.array(layer.kernel) for layer in model.layers if hasattr(layer, "kernel")]


def pruned_once_more(model, before):
    """The masks of the next round: a quarter of what is left goes, the smallest of all kernels."""
    left = np.concatenate([np.abs(k)[m > 0] for k, m in zip(kernels(model), before, strict=True)])
    threshold = np.sort(left)[round(0.25 * len(left)) - 1]
    return [(np.abs(k) > threshold) * m for k, m in zip(kernels(model), before, strict=True)]


def test_rounds():
    x, y = arrays()
    model, starts = made(), Starts()
    initial = [np.array(weight) for weight in model.get_weights()]
    settings = {"rounds": 2, "fraction": 0.25, "rewind": 7, "epochs": [2, 1, 2], "batch_size": 8}
    found = lottery_ticket(model, (x, y), callbacks=[starts], validation_data=(x, y), **settings, **QUIET)

    for weight, value in zip(model.get_weights(), initial, strict=True):
        np.testing.assert_array_equal(weight, value)  # the user's model was not changed
    by_hand = made()
    keras.utils.set_random_seed(0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    by_hand.compile(keras.optimizers.SGD(0.3, momentum=0.9), loss=loss, run_eagerly=True)
    seen = []

    def stop_after_seven(batch, logs):
        seen.append(batch)
        by_hand.stop_training = len(seen) == 7

    stop = keras.callbacks.LambdaCallback(on_train_batch_end=stop_after_seven)
    by_hand.fit(Pipeline((x, y), batch_size=8, seed=0), epochs=9, callbacks=[stop], verbose=0)
    assert seen == [0, 1, 2, 3, 4, 0, 1]
    for one, other in zip(by_hand.get_weights(), found.rewound.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)

    masks = [np.ones_like(kernel) for kernel in kernels(model)]
    for number, trained in enumerate(found.models):
        for start, rewound, mask in zip(starts.kernels[number], kernels(found.rewound), masks, strict=True):
            np.testing.assert_array_equal(start, rewound * mask)
        for kernel, mask in zip(kernels(trained), masks, strict=True):
            np.testing.assert_array_equal(kernel != 0, mask > 0)
        assert found.sparsities[number] == pytest.approx(1 - sum(m.sum() for m in masks) / 72)
        masks = pruned_once_more(trained, masks)
    assert [record.name for record in found.trainings] == ["dense", "25.0% pruned", "44.4% pruned"]
    assert [record.epochs for record in found.trainings] == [2, 1, 2]
    assert not any(reparametrized_layers(trained) for trained in found.models)
    assert "44.4% pruned" in repr(found) and found.trainings[0].parameters == model.count_params()


@pytest.mark.parametrize("killed_at", [6, 20])
def test_resumed_after_a_kill(tmp_path, monkeypatch, killed_at):
    """In the second epoch of the steps before the rounds, and in the first round."""
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)
    settings = {"rounds": 1, "rewind": 8, "epochs": 2, "batch_size": 8, **QUIET}
    whole = lottery_ticket(made(), arrays(), **settings)
    with pytest.raises(KeyboardInterrupt):
        lottery_ticket(made(), arrays(), folder=tmp_path, callbacks=[Starts(killed_at)], **settings)
    nothing = Starts()
    resumed, again = (
        lottery_ticket(made(), arrays(), folder=tmp_path, callbacks=[starts], **settings)
        for starts in (Starts(), nothing)
    )
    for found in (resumed, again):
        for one, other in zip((whole.rewound, *whole.models), (found.rewound, *found.models), strict=True):
            for weight, value in zip(one.get_weights(), other.get_weights(), strict=True):
                np.testing.assert_array_equal(weight, value)
    assert nothing.batches == 0


def test_a_function_with_another_body_is_another_training(tmp_path):
    """Both have the same name."""

    def trained(factor):
        def loss(labels, outputs):
            return factor * keras.losses.sparse_categorical_crossentropy(labels, outputs, from_logits=True)

        return lottery_ticket(made(), arrays(), rounds=1, epochs=1, folder=tmp_path, loss=loss, **QUIET).models[0]

    first, other = trained(1.0), trained(0.0)
    assert not np.array_equal(first.layers[0].kernel, other.layers[0].kernel)


def test_functions_are_described_by_what_they_do():
    def made(factor, late=None):
        def loss(labels, outputs):
            return factor * (labels - outputs) if factor else loss(labels, late)  # which holds itself

        return loss

    def described(*arguments):
        return json.dumps(plain(functools.partial(made(*arguments), late=np.ones(2))))

    assert described(1.0) == described(1.0) != described(2.0)
    assert described(1.0, np.zeros(2000)) != described(1.0, np.ones(2000))
    assert plain(lambda y: y + 1) != plain(lambda y: y + 2)
    assert plain(functools.partial(made, 1)) != plain(functools.partial(made, 2)) and "0x" not in described(1.0)


def test_taught_by_a_teacher_and_pruned_by_layer():
    x, y = arrays()
    teacher = made()
    teacher.layers[0].bias.assign(np.ones(8))
    found = lottery_ticket(
        made(), (x, y), rounds=1, epochs=1, fraction=0.5, scope="layer", skip=["head"], teacher=teacher, **QUIET
    )
    body, head = kernels(found.student)
    assert (body == 0).sum() == 24 and (head != 0).all() and found.sparsities == (0.0, 0.5)
    assert found.trainings[1].teachers == (teacher.name,)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"rounds": 0}, "rounds"),
        ({"fraction": 1.0}, "fraction"),
        ({"rewind": -1}, "rewind"),
        ({"scope": "all"}, "scope"),
        ({"epochs": [1, 2, 3]}, "a list of 2"),
        ({"skip": ["body", "head"]}, "all in 'skip'"),
        ({"skip": ["haed"]}, "'skip' names a layer that the model does not have.*Did you mean 'head'"),
        ({"skip": 3}, "Invalid 'skip'"),
        ({"seed": -1}, "Invalid 'seed'"),
        ({"rewind": 21}, "ended before the step.*Received: the end after step 1. Expected: at least 21 steps"),
        ({"rewind": 3, "compile": {"steps_per_execution": 2}}, "in the middle of an execution"),
        ({"model": Pruning(0.5).apply(made(), verbose=False)}, "compressed already"),
        ({"model": keras.Sequential([keras.Input((3,)), layers.ReLU()])}, "without a trainable kernel"),
    ],
)
def test_wrong_settings(changes, message):
    settings = {"model": made(), "rounds": 1, "epochs": 1, "progress": False} | changes
    with pytest.raises(ConfigurationError, match=message):
        lottery_ticket(settings.pop("model"), arrays(), **settings)
