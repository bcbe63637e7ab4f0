"""Images that were synthesized from a teacher, with what the teacher predicts for them."""

from __future__ import annotations

from dataclasses import dataclass

from keras_kd.errors import ConfigurationError, check_integer, check_number, explain


@dataclass(frozen=True)
class SynthesizedImage:
    """One image.

    Attributes:
        predicted: the class that the teacher predicts.
        confidence: the probability of this class, 0 to 1.
        image: as a PNG in base64.

    Raises:
        ConfigurationError: a negative class, or no probability.
    """

    predicted: int
    confidence: float
    image: str

    def __post_init__(self) -> None:
        check_integer("predicted", self.predicted, at_least=0)
        check_number("confidence", self.confidence, at_least=0, at_most=1)


@dataclass(frozen=True)
class SynthesizedImages:
    """Some of the images that a student learned from instead of data.

    Attributes:
        images: those to show.
        count: the number of images in the run folder.
        shown_range: the values drawn as black and white, in the range of the model's inputs.

    Raises:
        ConfigurationError: no images, or more than there are.
    """

    images: list[SynthesizedImage]
    count: int
    shown_range: list[float]

    def __post_init__(self) -> None:
        if not 1 <= len(self.images) <= self.count:
            raise ConfigurationError(
                explain(
                    "Invalid 'images'.",
                    received=f"{len(self.images)} of {self.count}",
                    expected="at least one, and no more than there are",
                )
            )
