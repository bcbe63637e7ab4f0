import keras
import pytest

from keras_kd import models
from keras_kd.errors import ConfigurationError

NAMES = [
    "digits_student",
    "digits_teacher",
    "mobilenetv2",
    "plain_cnn_10",
    "plain_cnn_2",
    "plain_cnn_4",
    "plain_cnn_6",
    "plain_cnn_8",
    "resnet20",
    "resnet32x4",
    "resnet56",
    "resnet8",
    "resnet8x4",
]
NAMES += ["shufflenetv1", "shufflenetv2", "vgg13", "vgg8", "wrn_16_2", "wrn_40_2"]


def test_names():
    assert models.names() == NAMES
    assert {*models.__all__} == {"build", "names", *NAMES}


def test_settings_reach_the_model():
    model = models.build("digits_student", input_shape=(8, 8, 1), num_classes=10, widths=(4, 4))
    assert len([layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "digit_student"}, "Did you mean 'digits_student'"),
        ({"name": "resnet8x"}, "Did you mean 'resnet8x4'"),
        ({"name": None}, ", ".join(NAMES)),
        ({"width": 3}, "got an unexpected keyword argument 'width'.*widths"),
        ({"name": "vgg8", "width": 3}, "got an unexpected keyword argument 'width'"),
        ({"input_shape": (8, 8)}, "height, width, channels"),
        ({"input_shape": (None, 8, 1)}, "height, width, channels"),
        ({"num_classes": 1}, "2 <= num_classes"),
        ({"num_classes": True}, "2 <= num_classes"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        models.build(**({"name": "digits_student", "input_shape": (8, 8, 1), "num_classes": 10} | arguments))
