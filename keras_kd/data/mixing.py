"""Augmentations that mix each example with a partner from the data set, and their labels in the same proportions."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from keras_kd.data.augmentation import Mixing, registry
from keras_kd.data.draws import MIN_BETA_ALPHA, Draws
from keras_kd.data.images import check_image, in_random_box
from keras_kd.errors import check_number


@dataclasses.dataclass(frozen=True)
class _BetaMixing(Mixing):
    """Mixing with a share drawn from Beta(alpha, alpha)."""

    alpha: float
    probability: float = 1.0

    def __post_init__(self):
        self._set(alpha=check_number("alpha", self.alpha, at_least=MIN_BETA_ALPHA))
        self._set(probability=check_number("probability", self.probability, at_least=0.0, at_most=1.0))

    def _share(self, draws: Draws) -> np.ndarray:
        """The share of the first example, float64 `[b]`; 1 if the example is not mixed."""
        applied = draws.uniform("applied") < self.probability
        return np.where(applied, draws.beta("share", self.alpha), 1.0)


@registry.register
@dataclasses.dataclass(frozen=True)
class Mixup(_BetaMixing):
    """`share * x + (1 - share) * partner_x` with a share from Beta(alpha, alpha), for inputs of any shape.

    Each example has its own share and partner; the published code uses one share per batch. Segmentation masks can be
    mixed if they are one-hot, `[n, H, W, C]`: the mixture is a share of each class for each pixel.

    Source: Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: beyond empirical risk minimization", 2018.

    Args:
        alpha: larger values move the shares closer to 1/2; the paper uses 0.1 to 0.4 on ImageNet, 1.0 on CIFAR-10.
        probability: the probability of mixing an example.
    """

    num_grid_axes: ClassVar[int | None] = 0
    alpha: float = 0.2

    def mix(self, x, partner_x, draws):
        share = self._share(draws).astype(np.float32)
        weight = share.reshape(-1, *[1] * (x.ndim - 1))
        return weight * x + (1 - weight) * partner_x, share


@registry.register
@dataclasses.dataclass(frozen=True)
class CutMix(_BetaMixing):
    """Replaces a box in an image by the same box of the partner.

    The box is centered at a random pixel and has the image's aspect ratio and `1 - share` of its area, with a share
    from Beta(alpha, alpha). The part of a box outside the image is clipped; the returned share is that of the pixels
    actually kept. Segmentation masks get the same box of the partner's mask.

    Source: Yun et al., "CutMix: regularization strategy to train strong classifiers with localizable features", 2019.

    Args:
        alpha: 1.0 draws the share uniformly.
        probability: the probability of mixing an example; the paper uses 0.5 on CIFAR and 1.0 on ImageNet.
    """

    pastes: ClassVar[bool] = True
    num_grid_axes: ClassVar[int | None] = 2
    alpha: float = 1.0

    def mix(self, x, partner_x, draws):
        height, width = x.shape[1:3]
        side = np.sqrt(1 - self._share(draws))
        down, across = self.cell
        box_heights, box_widths = ((side * length).astype(np.int64) for length in (height // down, width // across))
        inside = in_random_box(draws, box_heights, box_widths, height, width, self.cell)
        share = 1 - np.count_nonzero(inside, axis=(1, 2, 3)) / (height * width)
        return np.where(inside, partner_x, x), share.astype(np.float32)

    def check(self, shape):
        check_image(self, shape)
