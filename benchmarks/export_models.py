"""The models of the export benchmark: random ones of `keras.applications`, and small trained ones on real data."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from images import read
from keras import layers
from sklearn.datasets import load_digits

SIZE = 224
APPLICATIONS = ("MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "ResNet50", "NASNetMobile", "ConvNeXtTiny")
VOCABULARY, WORDS = 5_000, 48


class Case(NamedTuple):
    """A model, samples for calibration and comparison, and test data for a trained one."""

    model: keras.Model
    samples: np.ndarray
    validation: tuple[np.ndarray, np.ndarray] | None = None
    test: tuple[np.ndarray, np.ndarray] | None = None


def application(name: str) -> Case:
    keras.utils.set_random_seed(0)
    options = {"weights": None, "input_shape": (SIZE, SIZE, 3), "classifier_activation": None}
    model = getattr(keras.applications, name)(**options)
    low, high = {"MobileNetV2": (-1, 1), "NASNetMobile": (-1, 1)}.get(name, (0, 255))
    images = np.random.default_rng(0).uniform(low, high, (16, SIZE, SIZE, 3)).astype("float32")
    normalize(model, images)
    return Case(model, images)


def normalize(model: keras.Model, images: np.ndarray) -> None:
    """Sets the statistics of batch normalization to those of images: with the initial ones, the signal vanishes."""
    norms = [one for one in model._flatten_layers() if isinstance(one, layers.BatchNormalization)]
    momenta = [one.momentum for one in norms]
    for one in norms:
        one.momentum = 0.0
    model(images, training=True)
    for one, momentum in zip(norms, momenta, strict=True):
        one.momentum = momentum


def trained(name: str, folder: Path) -> Case:
    keras.utils.set_random_seed(0)
    x, y, x_test, y_test, model, epochs = TRAINED[name](folder)
    order = np.random.default_rng(0).permutation(len(x))
    held_out, rest = order[: len(x) // 5], order[len(x) // 5 :]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss=loss, metrics=["accuracy"])
    model.fit(x[rest], y[rest], batch_size=64, epochs=epochs, verbose=2)
    return Case(model, x[rest][:200], (x[held_out], y[held_out]), (x_test, y_test))


def digits(folder: Path):
    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype("float32").reshape(-1, 8, 8, 1), y.astype("int64")
    return x[:1437], y[:1437], x[1437:], y[1437:], convolutional((8, 8, 1), (24, 48), 10), 20


def fashion_mnist(folder: Path):
    data = read(folder, "fashion_mnist")
    x, x_test = (data[key][..., None].astype("float32") / 255 for key in ("x_train", "x_test"))
    y, y_test = (data[key].astype("int64") for key in ("y_train", "y_test"))
    return x[:20_000], y[:20_000], x_test, y_test, convolutional((28, 28, 1), (16, 32, 64), 10), 4


def spoken_digits(folder: Path):
    """Log spectrograms of 0.6 s at 8 kHz: 48 frames of 64 bands up to 4 kHz."""
    data = read(folder, "fsdd")
    clips = [data["audio"][start:end] for start, end in zip(data["offsets"][:-1], data["offsets"][1:], strict=True)]
    x = np.stack([spectrogram(clip) for clip in clips])
    y, is_test = data["label"].astype("int64"), data["is_test"]
    x = (x - x[~is_test].mean()) / x[~is_test].std()
    model = convolutional(x.shape[1:], (16, 32, 64), 10)
    return x[~is_test], y[~is_test], x[is_test], y[is_test], model, 40


def spectrogram(clip: np.ndarray) -> np.ndarray:
    samples = np.zeros(4_800, "float32")
    samples[: len(clip)] = clip[:4_800] / 32_768
    frames = np.lib.stride_tricks.sliding_window_view(samples, 128)[::98] * np.hanning(128)
    power = np.abs(np.fft.rfft(frames)[:, :64]) ** 2
    return np.log(power + 1e-6).astype("float32")[..., None]


def sst2(folder: Path):
    """Sentences as the ids of their most frequent words, for a small transformer."""
    rows = read_rows(folder)
    words = [re.findall(r"[a-z']+", row["text"].lower()) for row in rows]
    splits = np.array([row["split"] for row in rows])
    counts: dict[str, int] = {}
    for sentence in (one for one, split in zip(words, splits, strict=True) if split == "train"):
        for word in sentence:
            counts[word] = counts.get(word, 0) + 1
    ids = {word: index + 2 for index, word in enumerate(sorted(counts, key=counts.get, reverse=True)[: VOCABULARY - 2])}
    x = np.zeros((len(words), WORDS), "int32")
    for row, sentence in enumerate(words):
        found = [ids.get(word, 1) for word in sentence[:WORDS]]
        x[row, : len(found)] = found
    y = np.array([int(row["label"]) for row in rows])
    train, test = splits == "train", splits == "test"
    return x[train], y[train], x[test], y[test], transformer(), 3


def read_rows(folder: Path) -> list[dict[str, str]]:
    import importlib.util

    specification = importlib.util.spec_from_file_location("load", folder / "load.py")
    reader = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(reader)
    return reader.load_tsv("sst2")


def convolutional(shape: tuple[int, ...], widths: tuple[int, ...], num_classes: int) -> keras.Model:
    x = image = keras.Input(shape, name="image")
    for width in widths:
        x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        x = layers.MaxPooling2D()(layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x)))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(num_classes, name="logits")(x))


def transformer() -> keras.Model:
    tokens = keras.Input((WORDS,), dtype="int32", name="tokens")
    x = layers.Embedding(VOCABULARY, 64)(tokens)
    normal = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(4, 16)(normal, normal)])
    x = layers.Add()([x, layers.Dense(64)(layers.Dense(128, "gelu")(layers.LayerNormalization()(x)))])
    x = layers.Dropout(0.3)(layers.GlobalAveragePooling1D()(x))
    return keras.Model(tokens, layers.Dense(2, name="logits")(x))


TRAINED: dict[str, Callable[[Path], tuple]] = {
    "digits": digits,
    "fashion_mnist": fashion_mnist,
    "spoken_digits": spoken_digits,
    "sst2": sst2,
}
