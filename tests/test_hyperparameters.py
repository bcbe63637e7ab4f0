import inspect

import keras
import pytest

import keras_kd as kd
from keras_kd.errors import ConfigurationError
from keras_kd.hyperparameters import DEFAULT_ALPHA, DEFAULT_TEMPERATURE, Hyperparameter
from keras_kd.recipes.reading.schema import Distillation, FewLabels
from keras_kd.schedules import Linear
from keras_kd.serialization import deserialize


def test_a_number_and_a_schedule():
    alpha = Hyperparameter("alpha", 0.9, at_least=0, at_most=1)
    assert alpha.value == 0.9 and float(alpha.at(5)) == pytest.approx(0.9)
    alpha.set(0.25)
    assert float(alpha.at(5)) == float(alpha.variable) == 0.25 and alpha.schedule is None
    alpha.set(Linear(1.0, 0.0, steps=10))
    assert float(alpha.at(5)) == 0.5 and alpha.value == alpha.schedule == Linear(1.0, 0.0, steps=10)
    alpha.set(0.3)
    assert alpha.value == 0.3 and alpha.schedule is None


def test_a_schedule_is_clipped_to_the_range():
    assert float(Hyperparameter("alpha", Linear(2.0, -1.0, steps=10), at_least=0, at_most=1).at(10)) == 0.0


@pytest.mark.parametrize("value", [-0.1, 1.1, float("inf"), True, None, [0.5]])
def test_anything_but_a_number_in_the_range_is_refused(value):
    with pytest.raises(ConfigurationError, match="'alpha'.*0 <= alpha <= 1.*a hint"):
        Hyperparameter("alpha", value, at_least=0, at_most=1, fix="a hint")


def test_a_schedule_of_keras():
    decay = keras.optimizers.schedules.PolynomialDecay(2.0, decay_steps=10, end_learning_rate=0.0)
    alpha = Hyperparameter("alpha", 0.9, at_least=0, at_most=1)
    alpha.set(decay)
    assert alpha.value is alpha.schedule is decay
    assert [float(alpha.at(step)) for step in (0, 5, 8)] == pytest.approx([1.0, 1.0, 0.4])
    assert alpha.at(8).dtype == "float32"
    again = Hyperparameter("alpha", deserialize(alpha.get_config()), at_least=0, at_most=1)
    assert float(again.at(8)) == pytest.approx(0.4)


def test_the_defaults_are_the_same_everywhere():
    """Recipes are read without Keras, so their schema repeats the two numbers."""
    defaults = {"alpha": DEFAULT_ALPHA, "temperature": DEFAULT_TEMPERATURE}
    for function in (kd.Distiller, kd.distill_chain):
        parameters = inspect.signature(function).parameters
        assert {name: parameters[name].default for name in defaults} == defaults
    for section in (Distillation, FewLabels):
        assert {name: section.model_fields[name].default for name in defaults} == defaults
