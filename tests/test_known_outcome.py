"""A training with a known outcome: with 100 labels, distilled beats scratch for each of 5 seeds."""

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd import data

SEEDS = range(5)


@pytest.fixture(scope="module")
def recipe():
    return kd.recipes.load()


@pytest.fixture(scope="module")
def source():
    return data.open_source("digits")


def fit(model, split, settings, seed):
    steps = data.steps_per_epoch(split, settings.batch_size)
    rate = keras.optimizers.schedules.CosineDecay(settings.learning_rate, settings.epochs * steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=data.UNLABELED)
    model.compile(keras.optimizers.Adam(rate), loss=loss, metrics=["accuracy"])
    batches = data.Pipeline(split, batch_size=settings.batch_size, seed=seed)
    model.fit(batches, epochs=settings.epochs, verbose=0)


@pytest.fixture(scope="module")
def teacher(recipe, source):
    keras.utils.set_random_seed(0)
    teacher = kd.models.build("digits_teacher", input_shape=(8, 8, 1), num_classes=10)
    fit(teacher, source.train, recipe.teacher, seed=0)
    return teacher


@pytest.mark.long
def test_with_100_labels_distilled_beats_scratch_in_each_of_5_seeds(recipe, source, teacher):
    x, y = source.test.arrays()
    results = []
    for seed in SEEDS:
        labeled, partly = data.few_labels(source.train, 100, seed)
        repeated = labeled.subset(np.sort(np.resize(np.arange(100), source.train.num_examples)), name="repeated")
        accuracies = []
        for split in (repeated, partly):
            keras.utils.set_random_seed(seed)
            student = kd.models.build("digits_student", input_shape=(8, 8, 1), num_classes=10)
            model = student
            if split is partly:
                few = recipe.few_labels
                model = kd.Distiller(teacher, student, alpha=few.alpha, temperature=few.temperature)
            fit(model, split, recipe.student, seed)
            accuracies.append(kd.evaluation.accuracy(student.predict(x, verbose=0), y))
        results.append(tuple(accuracies))
    assert all(distilled > scratch + 0.01 for scratch, distilled in results), results
