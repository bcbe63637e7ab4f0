"""Zeros in a `.tflite` file: bytes and latency of a float net with sparse 1x1 kernels, stored densely and sparsely.

    python benchmarks/sparse_kernels.py [--rounds 9]

The net is one that XNNPACK's sparse kernels take: a 3x3 convolution with stride 2 and a padding of 1, then depthwise
and 1x1 convolutions, with random weights of which the smallest are zero. The sparse file is written with the
converter's `EXPERIMENTAL_SPARSITY`. Both files run in turn on LiteRT with XNNPACK, 1 thread, one image.
"""

from __future__ import annotations

import argparse
import gzip

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from common import markdown, ratio, rounds, show, write
from keras import layers

SHAPE = (96, 96, 3)
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1))
SPARSITIES = (0.0, 0.7, 0.8, 0.9)
RUNS = 100


def net():
    def normalized(x):
        return layers.ReLU(6.0)(layers.BatchNormalization()(x))

    image = keras.Input(SHAPE, batch_size=1)
    x = normalized(layers.Conv2D(32, 3, strides=2, use_bias=False)(layers.ZeroPadding2D(1)(image)))
    for width, strides in BLOCKS:
        x = layers.DepthwiseConv2D(3, strides, use_bias=False)(layers.ZeroPadding2D(1)(x))
        x = normalized(layers.Conv2D(width, 1, use_bias=False)(normalized(x)))
    return keras.Model(image, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def with_zeros(model, sparsity):
    """Sets the smallest weights of each 1x1 kernel to zero."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if type(layer) is layers.Conv2D and layer.kernel_size == (1, 1):
            kernel = rng.normal(size=layer.kernel.shape, scale=0.1)
            layer.kernel.assign(np.where(np.abs(kernel) < np.quantile(np.abs(kernel), sparsity), 0.0, kernel))


def convert(model, *, is_sparse):
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY] if is_sparse else []
    return converter.convert()


def runner(content):
    """A function that runs a file `RUNS` times, and its outputs for an image."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    image = np.random.default_rng(1).normal(size=(1, *SHAPE)).astype("float32")
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)

    def run():
        for _ in range(RUNS):
            interpreter.invoke()

    run()
    return run, interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def measured(model, sparsity, num_rounds):
    with_zeros(model, sparsity)
    files = {"dense": convert(model, is_sparse=False), "sparse": convert(model, is_sparse=True)}
    runs, outputs = zip(*map(runner, files.values()), strict=True)
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-4, atol=1e-5)
    seconds = rounds(dict(zip(files, runs, strict=True)), num_rounds)
    return {
        "sparsity": sparsity,
        "num_bytes": {name: len(content) for name, content in files.items()},
        "gzip_bytes": {name: len(gzip.compress(content, 9)) for name, content in files.items()},
        "dense_ms": 1000 * sorted(seconds["dense"])[num_rounds // 2] / RUNS,
        "ratio": ratio(seconds["sparse"], seconds["dense"]),
    }


def table(results):
    def kilobytes(found):
        return [f"{found[name] / 1000:,.0f}" for name in ("dense", "sparse")]

    head = ["zeros", "dense kB", "sparse kB", "dense gzip kB", "sparse gzip kB", "dense ms", "sparse / dense time"]
    rows = [
        [f"{100 * row['sparsity']:g}%", *kilobytes(row["num_bytes"]), *kilobytes(row["gzip_bytes"])]
        + [f"{row['dense_ms']:.2f}", show(row["ratio"])]
        for row in results
    ]
    return markdown(head, rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    num_rounds = parser.parse_args().rounds
    keras.utils.set_random_seed(0)
    model = net()
    results = [measured(model, sparsity, num_rounds) for sparsity in SPARSITIES]
    write("sparse_kernels", {"rounds": num_rounds, "rows": results}, table(results))


if __name__ == "__main__":
    main()
