"""Reference models by name: a small pair for the digits, and the CIFAR models of the published distillation tables.

All end in logits (a linear Dense layer) after global average pooling, so they accept any small image shape.

The CIFAR models share names for the layers that distillation taps: `stem`, `stage_1`, `stage_2` and so on are features
0, 1, 2 and so on of Y. Tian et al., "Contrastive Representation Distillation", 2020; `pool` is the vector below the
`logits`; and `stage_1_preact` is the map before the ReLU of a stage, if it has one.
"""

from keras_kd.models.building import build, names
from keras_kd.models.digits import digits_student, digits_teacher
from keras_kd.models.mobilenet import mobilenetv2
from keras_kd.models.plain_cnn import plain_cnn_2, plain_cnn_4, plain_cnn_6, plain_cnn_8, plain_cnn_10
from keras_kd.models.resnet import resnet8, resnet8x4, resnet20, resnet32x4, resnet56
from keras_kd.models.shufflenet import shufflenetv1, shufflenetv2
from keras_kd.models.vgg import vgg8, vgg13
from keras_kd.models.wide_resnet import wrn_16_2, wrn_40_2

__all__ = [
    "build",
    "digits_student",
    "digits_teacher",
    "mobilenetv2",
    "names",
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
    "shufflenetv1",
    "shufflenetv2",
    "vgg13",
    "vgg8",
    "wrn_16_2",
    "wrn_40_2",
]
