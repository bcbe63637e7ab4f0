"""Trains a convolutional net with TFMOT's quantization-aware training, and writes its weights and ranges to a file.

    python tfmot_training.py start.npz result.npz

`start.npz` has the weights of the net in the order of its layers, `x`, `y` and `steps`.
"""

import sys

import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras

start = np.load(sys.argv[1])
layers = tf_keras.layers
net = tf_keras.Sequential(
    [
        layers.Input((8, 8, 3)),
        layers.Conv2D(6, 3, use_bias=False, name="conv"),
        layers.BatchNormalization(name="norm"),
        layers.ReLU(6.0, name="relu"),
        layers.Conv2D(4, 1, activation="relu", name="conv_2"),
        layers.Flatten(name="flatten"),
        layers.Dense(4, name="head"),
    ]
)
net.set_weights([start[f"weight_{number}"] for number in range(len(net.weights))])
aware = tfmot.quantization.keras.quantize_model(net)
aware.compile(tf_keras.optimizers.legacy.SGD(0.05), tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
for _ in range(int(start["steps"])):
    aware.train_on_batch(start["x"], start["y"])

found = {}
for layer in aware.layers:
    name = layer.name.removeprefix("quant_")
    for weight in layer.weights:
        found[f"{name}/{weight.name.rpartition('/')[2].partition(':')[0]}"] = weight.numpy()
found["outputs"] = aware.predict(start["x"], verbose=0)
np.savez(sys.argv[2], **found)
