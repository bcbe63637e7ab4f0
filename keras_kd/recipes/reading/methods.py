"""The sections `distillation` of the methods other than that of a teacher and labeled examples."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from keras_kd.recipes.reading.section import ModelName, Scheduled, Section, list_as_tuple, not_empty


class Method(Section):
    """What all of these have.

    Attributes:
        alpha: the weight of what the student learns from other than the labels.
        temperature: None is that of the method.
        losses: these methods have terms of their own.
        adversary, supervise: none of them attacks its student.
    """

    losses: None = None
    adversary: None = None
    supervise: Literal["clean"] = "clean"
    alpha: Scheduled = 0.5
    temperature: Scheduled | None = None


_OWNERS = {
    "feature_weight": "exits",
    "decay": "ema",
    "correct": "label_smoothing",
    "smoothing_temperature": "label_smoothing",
}


class SelfTaught(Method):
    """A student that teaches itself, see `keras_kd.regimes.SelfDistiller`: by `exits`, or by a `teacher` made of it.

    None is the default of `SelfDistiller`. With `keep_exits`, the student with its exits is kept too, beside the one
    without them.
    """

    method: Literal["self"]
    exits: Annotated[tuple[str, ...] | None, list_as_tuple, not_empty("at least one layer of the student")] = None
    teacher: Literal["ema", "previous_epoch", "label_smoothing"] | None = None
    feature_weight: float | None = Field(default=None, ge=0, le=1e6)
    decay: float | None = Field(default=None, ge=0, le=1)
    correct: float | None = Field(default=None, ge=0, le=1)
    smoothing_temperature: float | None = Field(default=None, ge=1e-3, le=1e6)
    keep_exits: bool = False

    @field_validator("exits")
    @classmethod
    def _different(cls, exits: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if exits and len(set(exits)) < len(exits):
            raise ValueError("different layers")
        return exits

    @field_validator(*_OWNERS)
    @classmethod
    def _of_this_way(cls, value: float | None, info: ValidationInfo) -> float | None:
        owner = _OWNERS[info.field_name]
        way = "exits" if info.data.get("exits") else info.data.get("teacher")
        if value is not None and way is not None and way != owner:
            raise ValueError(f"null: a setting of {owner if owner == 'exits' else f'teacher: {owner}'} alone")
        return value

    @field_validator("keep_exits")
    @classmethod
    def _has_exits(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("teacher") is not None:
            raise ValueError("false: a setting of exits alone")
        return value

    @model_validator(mode="after")
    def _one_way(self) -> SelfTaught:
        if (self.exits is None) == (self.teacher is None):
            raise ValueError("exits: [layers], or teacher: ema, previous_epoch or label_smoothing, and not both")
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of `SelfDistiller` that are given, except alpha and temperature."""
        given = self.model_dump(include={"exits", "teacher", *_OWNERS})
        return {name: value for name, value in given.items() if value is not None}


class Mutual(Method):
    """Peers that learn together and from each other, see `keras_kd.regimes.MutualDistiller`; the best is the student.

    Attributes:
        mode: the `method` of `MutualDistiller`.
        peers: beside the student, which is the leader of `okddip`: how many with its architecture and other initial
            weights, or a list of models.
        at: the last layer that the peers share, for `one`.
        rule: how `kdcl` combines the logits; None is its default.
    """

    method: Literal["mutual"]
    mode: Literal["dml", "kdcl", "one", "okddip"] = "dml"
    peers: Annotated[int | tuple[ModelName, ...], list_as_tuple] = 1
    at: str | None = None
    rule: Literal["min_logit", "best", "mean"] | None = None

    @field_validator("peers")
    @classmethod
    def _at_least_one(cls, peers: Any, info: ValidationInfo) -> Any:
        if peers == () or (isinstance(peers, int) and not 1 <= peers <= 100):
            raise ValueError("1 to 100 peers beside the student, or a list of their models")
        if info.data.get("mode") == "one" and isinstance(peers, tuple):
            raise ValueError("a number: the peers of mode: one are branches of the student")
        return peers

    @field_validator("at")
    @classmethod
    def _for_branches(cls, at: str | None, info: ValidationInfo) -> str | None:
        if at is not None and info.data.get("mode", "one") != "one":
            raise ValueError("null: a setting of mode: one alone")
        return at

    @field_validator("rule")
    @classmethod
    def _for_ensembles(cls, rule: str | None, info: ValidationInfo) -> str | None:
        if rule is not None and info.data.get("mode", "kdcl") != "kdcl":
            raise ValueError("null: a setting of mode: kdcl alone")
        return rule

    @model_validator(mode="after")
    def _shares_layers(self) -> Mutual:
        if self.mode == "one" and self.at is None:
            raise ValueError("with mode: one also at, the last layer of the student that the peers share")
        return self

    @property
    def num_peers(self) -> int:
        """With the student."""
        return 1 + (self.peers if isinstance(self.peers, int) else len(self.peers))

    @property
    def named(self) -> tuple[str, ...]:
        """The peers that are models of their own."""
        return self.peers if isinstance(self.peers, tuple) else ()


class Synthesizer(Section):
    """The source of images; `images` are synthesized for calibration, compression and the report, or for training."""

    images: int = Field(default=1000, ge=1, le=10_000_000)


class Generator(Synthesizer):
    """A generator that is trained with the student.

    Attributes:
        learning_rate: of the generator's Adam.
        steps_per_epoch: None is as many as with the training split.
    """

    learning_rate: float = Field(default=1e-3, gt=0, le=1000)
    steps_per_epoch: int | None = Field(default=None, ge=1, le=1_000_000)

    def losses(self) -> dict[str, Any]:
        """The settings of the synthesizer."""
        return self.model_dump(exclude={"name", *Generator.model_fields})


class Dafl(Generator):
    """Images of which the teacher is certain, see `keras_kd.synthesis.DAFL`."""

    name: Literal["dafl"]
    features: str | None = None
    one_hot: float = Field(default=1.0, ge=0, le=1e6)
    activation: float = Field(default=0.1, ge=0, le=1e6)
    entropy: float = Field(default=5.0, ge=0, le=1e6)


_pairs = BeforeValidator(
    lambda value: tuple(tuple(x) if isinstance(x, list) else x for x in value) if isinstance(value, list) else value
)


class Zskt(Generator):
    """Images on which teacher and student disagree, see `keras_kd.synthesis.ZSKT`."""

    name: Literal["zskt"]
    student_steps: int = Field(default=10, ge=1, le=10_000)
    attention: Annotated[tuple[tuple[str, str], ...], _pairs] = ()
    beta: float = Field(default=250.0, ge=0, le=1e6)


class Inversion(Synthesizer):
    """Images made once, before the training, see `keras_kd.synthesis.DeepInversion`."""

    name: Literal["deep_inversion"]
    images: int = Field(default=10_000, ge=1, le=10_000_000)
    steps: int = Field(default=2000, ge=1, le=1_000_000)
    learning_rate: float = Field(default=0.1, gt=0, le=1000)
    batch_norm: float = Field(default=100.0, ge=0, le=1e6)
    variation: float = Field(default=2.5e-5, ge=0, le=1e6)
    l2: float = Field(default=0.0, ge=0, le=1e6)
    shift: int = Field(default=2, ge=0, le=1000)
    flip: bool = False
    batch_size: int = Field(default=256, ge=2, le=100_000)

    def settings(self) -> dict[str, Any]:
        """The settings of `DeepInversion`."""
        return self.model_dump(exclude={"name", "images"})


_name_alone = BeforeValidator(lambda value: {"name": value} if isinstance(value, str) else value)


class DataFree(Method):
    """A student that learns from synthesized images alone, see `keras_kd.regimes.DataFreeDistiller`."""

    method: Literal["data_free"]
    synthesizer: Annotated[Annotated[Dafl | Zskt | Inversion, Field(discriminator="name")], _name_alone]
    alpha: Scheduled | None = None

    @model_validator(mode="after")
    def _a_generator_has_no_labels(self) -> DataFree:
        if self.alpha is not None and isinstance(self.synthesizer, Generator):
            raise ValueError(f"no alpha with {self.synthesizer.name}, whose images have no labels")
        return self


def by_method(default: type[Section], *others: type[Section]) -> Any:
    """The type of a section whose key `method` selects one of these classes, the first one without that key."""
    names = {section: section.model_fields["method"].annotation.__args__[0] for section in (default, *others)}

    def method(value: Any) -> str:
        if isinstance(value, Section):
            return names[type(value)]
        return str(value.get("method", names[default])) if isinstance(value, dict) else names[default]

    first, *rest = (Annotated[section, Tag(name)] for section, name in names.items())
    union = first
    for section in rest:
        union = union | section
    return Annotated[union, Discriminator(method)]
