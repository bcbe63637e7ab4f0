"""The sections about adversarial examples: the adversary of a distillation, and the measurement of robustness."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from keras_kd.recipes.reading.section import Section

_FRACTION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)\s*")


def fraction(value: Any) -> Any:
    """The number that a text such as `"8/255"` stands for; anything else unchanged.

    >>> fraction("1/4"), fraction("1/0"), fraction(0.1)
    (0.25, '1/0', 0.1)
    """
    found = _FRACTION.fullmatch(value) if isinstance(value, str) else None
    return value if found is None or not float(found[2]) else float(found[1]) / float(found[2])


def _check_start(value: bool | float) -> bool | float:
    if value is not False and value <= 0:
        raise ValueError("true, false, or a number above 0, the deviation of normal noise")
    return value


Fraction = Annotated[float, BeforeValidator(fraction), Field(gt=0)]
Norm = Literal["linf", "l2"]


class FGSM(Section):
    """An attack of one step, see `keras_kd.adversaries.FGSM`.

    `epsilon` has the unit of the inputs, whose range is `data.value_range`; a fraction such as `8/255` is a number too.
    """

    name: Literal["fgsm"]
    epsilon: Fraction
    objective: Literal["cross_entropy", "kl", "adaptive_kl"] = "cross_entropy"
    norm: Norm = "linf"


class PGD(FGSM):
    """An attack of several steps, see `keras_kd.adversaries.PGD`; its random start follows from the recipe's seed."""

    name: Literal["pgd"]
    steps: int = Field(default=10, ge=1, le=10_000)
    step_size: Fraction | None = None
    random_start: Annotated[bool | float, BeforeValidator(fraction), AfterValidator(_check_start)] = True


AnyAdversary = Annotated[PGD | FGSM, Field(discriminator="name")]


class Robustness(Section):
    """The accuracy of all Keras models under FGSM and PGD with 20 steps, see `keras_kd.evaluation.robustness`.

    `examples` limits the measurement to this many test examples, chosen by the recipe's seed; null takes all of them.
    """

    epsilon: Fraction
    norm: Norm = "linf"
    restarts: int = Field(default=1, ge=1, le=1000)
    examples: int | None = Field(default=None, ge=1)


class Measure(Section):
    """What is measured besides the accuracy, size and latency of all models."""

    robustness: Robustness | None = None
