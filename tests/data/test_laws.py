"""Two laws for every data path into the Distiller: rows of weight 0 have no influence, and rows stay together."""

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.data import Custom, CutMix, Flip, GaussianNoise, Mixup, PadAndCrop, Pipeline, open_source
from keras_kd.data.pipeline_inputs import inputs_of
from keras_kd.data.sources import records
from keras_kd.teachers import CachedTeacher, FunctionTeacher, StoredLogits

NUM, CLASSES = 24, 3
HEAVY = np.arange(NUM) % 3 != 1  # the other rows have weight 0


def told_apart(num=NUM):
    """Images `[n, 4, 4, 1]` in which every pixel is the example's number."""
    return np.broadcast_to(np.arange(num, dtype="float32")[:, None, None, None], (num, 4, 4, 1)).copy()


def of_arrays(x, y, weight, path, monkeypatch):
    return (x, y, weight)


def of_memmaps(x, y, weight, path, monkeypatch):
    np.save(path / "x.npy", x)
    return (np.load(path / "x.npy", mmap_mode="r"), y, weight)


def of_dataset(x, y, weight, path, monkeypatch):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, y, weight))


def of_batches(x, y, weight, path, monkeypatch):
    return of_dataset(x, y, weight, path, monkeypatch).batch(7)


def of_stream(x, y, weight, path, monkeypatch):
    monkeypatch.setattr(records, "MEMORY_LIMIT_BYTES", 0)
    return of_dataset(x, y, weight, path, monkeypatch)


SOURCES = [of_arrays, of_memmaps, of_dataset, of_batches, of_stream]


def no_teacher_here(pipeline, path):
    return None


def numbers_of(x):
    """A teacher whose first logit is the example's number."""
    first = x.reshape(len(x), -1)[:, :1]
    return np.concatenate([first, np.zeros((len(x), CLASSES - 1), "float32")], axis=1)


def of_function(pipeline, path):
    return FunctionTeacher(numbers_of, fingerprint="numbers", num_classes=CLASSES)


def of_cache(pipeline, path, **settings):
    settings = {"dtype": "float32", "views": 2, "shard_size": 5, "batch_size": 7, "progress": False} | settings
    return CachedTeacher.build(of_function(pipeline, path), pipeline, path / "cache", **settings)


def of_top_k(pipeline, path):
    return of_cache(pipeline, path, top_k=2)


def of_logits(pipeline, path):
    return StoredLogits(numbers_of(told_apart()), augmented_is_fine=True)


def of_logits_by_id(pipeline, path):
    order = np.random.default_rng(5).permutation(NUM)
    return StoredLogits({"logits": numbers_of(told_apart())[order], "ids": order}, augmented_is_fine=True)


TEACHERS = [no_teacher_here, of_function, of_cache, of_top_k, of_logits, of_logits_by_id]
AUGMENTS = {"plain": [], "augmented": [Flip(), Custom(lambda x, rng: x, "same")]}


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("augment", AUGMENTS.values(), ids=AUGMENTS)
@pytest.mark.parametrize("make_teacher", TEACHERS)
@pytest.mark.parametrize("make_source", SOURCES)
def test_input_label_weight_and_answer_stay_together(
    make_source, make_teacher, augment, shuffle, tmp_path, monkeypatch
):
    numbers = np.arange(NUM)
    source = make_source(told_apart(), numbers, numbers * 2.0, tmp_path, monkeypatch)
    pipeline = Pipeline(source, augment=augment, batch_size=5, shuffle=shuffle, seed=3)
    teacher = make_teacher(pipeline, tmp_path)
    pipeline = pipeline if teacher is None else pipeline.with_teacher(teacher)
    for epoch in (0, 1, 2):
        met = []
        for x, y, weight in pipeline.epoch(epoch):
            if teacher is not None:
                np.testing.assert_array_equal(x.ids, y)
                np.testing.assert_allclose(x.teacher_outputs["output"][:, 0], y, atol=0.02)
            np.testing.assert_array_equal(inputs_of(x)[:, 0, 0, 0], y)
            np.testing.assert_array_equal(weight, y * 2)
            met += y.tolist()
        assert sorted(met) == numbers.tolist() and (met == numbers.tolist()) != shuffle


@pytest.mark.parametrize("mixing", [Mixup(0.4), CutMix(1.0)])
@pytest.mark.parametrize("make_source", [of_arrays, of_memmaps, of_dataset])
def test_mixed_rows_stay_together(make_source, mixing, tmp_path, monkeypatch):
    """Every pixel of an image is its one-hot label, so the mean of a mixture is its label."""
    y = np.arange(NUM) % CLASSES
    x = np.broadcast_to(np.eye(CLASSES, dtype="float32")[y][:, None, None, :], (NUM, 4, 4, CLASSES)).copy()
    pipeline = Pipeline(
        make_source(x, y, np.arange(NUM) * 1.0, tmp_path, monkeypatch), augment=[Flip(), mixing], batch_size=5
    )
    for epoch in (0, 1):
        for x_mixed, y_mixed, weight in pipeline.epoch(epoch):
            np.testing.assert_allclose(x_mixed.mean((1, 2)), y_mixed, atol=1e-6)
            share = y_mixed[np.arange(len(weight)), weight.astype(int) % CLASSES]
            assert (share > 0).mean() > 0.7  # the weight is that of the first example of the pair


def images_of(kind, tmp_path, monkeypatch):
    if kind == "digits":
        return open_source("digits").train
    x, y = told_apart(60).astype(np.uint8), np.arange(60) % 3
    np.savez(tmp_path / "data.npz", x=x, y=y)
    train = open_source(f"npz:{tmp_path / 'data.npz'}").train
    return train.subset(np.random.default_rng(0).permutation(train.num_examples), "shuffled")


@pytest.mark.parametrize("kind", ["digits", "a subset in another order"])
def test_a_split_stays_together(kind, tmp_path, monkeypatch):
    split = images_of(kind, tmp_path, monkeypatch)
    split = split.relabeled(np.arange(split.num_examples), "numbered")
    x, _ = split.arrays()
    pipeline = Pipeline(split, batch_size=32)
    for images, numbers in pipeline.epoch(1):
        np.testing.assert_array_equal(images, x[numbers])


# Rows of weight 0.


def make_model(seed, shape):
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    return keras.Sequential([keras.Input(shape), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(CLASSES)])


def after_one_step(pipeline, teacher, shape, *, soft):
    """The student's weights after one step of plain gradient descent on all of the data, and the logged losses."""
    student = make_model(1, shape)
    distiller = kd.Distiller(teacher, student, alpha=0.6, temperature=2.0)
    kind = keras.losses.CategoricalCrossentropy if soft else keras.losses.SparseCategoricalCrossentropy
    distiller.compile(keras.optimizers.SGD(0.1), kind(from_logits=True))
    history = distiller.fit(pipeline, epochs=1, verbose=0).history
    return student.get_weights(), {name: value[0] for name, value in history.items() if name.endswith("loss")}


WAYS = {
    "arrays, live": (of_arrays, None, []),
    "on disk, live": (of_memmaps, None, []),
    "dataset, live": (of_dataset, None, []),
    "stream, live": (of_stream, None, []),
    "augmented, live": (of_arrays, None, [PadAndCrop(1), Flip(), GaussianNoise(0.1)]),
    "augmented, stream": (of_stream, None, [PadAndCrop(1), Flip()]),
    "mixup, live": (of_arrays, None, [Mixup(0.4)]),
    "cutmix, live": (of_arrays, None, [Flip(), CutMix(1.0)]),
    "function": (of_arrays, of_function, []),
    "cache": (of_arrays, of_cache, []),
    "cache, views": (of_arrays, of_cache, [PadAndCrop(1), Flip()]),
    "cache, mixup": (of_arrays, of_cache, [Mixup(0.4)]),
    "cache, stream": (of_stream, of_cache, [Flip()]),
    "cache, top k": (of_dataset, of_top_k, [Flip()]),
    "stored logits": (of_arrays, of_logits, []),
    "stored logits by id": (of_dataset, of_logits_by_id, []),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_row_without_weight_has_no_influence(way, tmp_path, monkeypatch):
    """Changing images and labels in rows of weight 0 changes neither the losses nor the student's weights."""
    make_source, make_teacher, augment = way
    is_mixed = any(isinstance(step, kd.data.augmentation.Mixing) for step in augment)
    rng = np.random.default_rng(0)
    x, y = rng.random((NUM, 6, 6, 1), "float32"), np.arange(NUM) % CLASSES
    weight = HEAVY.astype("float32")
    other_x, other_y = x.copy(), y.copy()
    light = ~HEAVY
    if is_mixed:  # such a row may still be another row's partner: it has no influence only if no row draws it
        partners = drawn_partners(x, y, augment)
        light = light & ~np.isin(np.arange(NUM), partners[HEAVY])
    other_x[light], other_y[light] = rng.random(x[light].shape, "float32") * 9 - 4, (y[light] + 1) % CLASSES
    results = []
    for number, data in enumerate([(x, y), (other_x, other_y)]):
        path = tmp_path / str(number)
        path.mkdir()
        source = make_source(*data, weight, path, monkeypatch)
        pipeline = Pipeline(source, augment=augment, batch_size=NUM, shuffle=False, num_classes=CLASSES)
        teacher = make_model(0, (6, 6, 1)) if make_teacher is None else make_teacher(pipeline, path)
        if make_teacher is not None:
            pipeline = pipeline.with_teacher(teacher)
        results.append(after_one_step(pipeline, teacher, (6, 6, 1), soft=is_mixed))
    assert light.any() and np.isfinite(list(results[0][1].values())).all()
    for one, other in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-5)


def drawn_partners(x, y, augment):
    """The partner of each example in view 0."""
    from keras_kd.data.draws import Draws

    place = next(place for place, step in enumerate(augment) if isinstance(step, kd.data.augmentation.Mixing))
    draws = Draws(0, np.arange(len(x)), 0).under(f"{place}")
    return augment[place].partners(draws, len(x))
