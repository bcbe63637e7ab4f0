"""VGG networks for 32x32 images: batch normalization after every convolution, and one Dense layer instead of three.

Layers: `stem` and `stage_1` to `stage_4`, each the last ReLU of a group of convolutions, before any pooling
(`stage_1_preact` is the map before that ReLU); `pool`, `logits`; inside, `stem_conv1`, `stage_1_conv1` and so on. The
stem is the first group, so that `stage_1` is the same published feature as in the other models.
"""

from __future__ import annotations

import keras
from keras import initializers, layers

from keras_kd.models.blocks import classifier, conv_bn_relu

_GROUPS = {"stem": 64, "stage_1": 128, "stage_2": 256, "stage_3": 512, "stage_4": 512}
_POOLED = ("stem", "stage_1", "stage_2")


def vgg8(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """VGG with one convolution per group: 3,965,028 parameters for 32x32x3 and 100 classes.

    After K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015, in
    the form of the tables of Y. Tian et al., "Contrastive Representation Distillation", 2020: three poolings, whatever
    the image size, so that the last two groups see maps of the same size.

    >>> vgg8((32, 32, 3), 100).get_layer("stage_4").output.shape
    (None, 4, 4, 512)

    Returns:
        A model `[batch, *input_shape] -> [batch, num_classes]` logits.
    """
    return _vgg("vgg8", input_shape, num_classes, convolutions=1)


def vgg13(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """VGG with two convolutions per group: 9,462,180 parameters for 32x32x3 and 100 classes.

    The teacher of `vgg8`.

    Returns:
        A model `[batch, *input_shape] -> [batch, num_classes]` logits.
    """
    return _vgg("vgg13", input_shape, num_classes, convolutions=2)


def _vgg(name: str, input_shape: tuple[int, int, int], num_classes: int, *, convolutions: int) -> keras.Model:
    inputs = x = keras.Input(input_shape, name="image")
    for group, width in _GROUPS.items():
        for number in range(1, convolutions + 1):
            # The bias before batch normalization has no effect, but the published counts include it.
            is_last = number == convolutions
            x = conv_bn_relu(
                x,
                width,
                use_bias=True,
                names=f"{group}_{{}}{number}",
                bn=f"{group}_preact" if is_last else None,
                relu=group if is_last else None,
            )
        if group in _POOLED:
            x = layers.MaxPooling2D(2, padding="same", name=f"{group}_max_pool")(x)
    return classifier(inputs, x, num_classes, name=name, initializer=initializers.RandomNormal(stddev=0.01))
