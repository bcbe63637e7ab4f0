"""The sections and keys of a recipe. Frozen, and validated when read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from keras_kd.litert import FORMATS
from keras_kd.litert.formats import Mixed
from keras_kd.recipes.reading.curricula import AnyCurriculum
from keras_kd.recipes.reading.methods import DataFree, Mutual, SelfTaught, by_method
from keras_kd.recipes.reading.robust import AnyAdversary, Measure
from keras_kd.recipes.reading.section import (
    FOREIGN,
    ModelName,
    NameOrSettings,
    Scheduled,
    Section,
    list_as_tuple,
    not_empty,
)
from keras_kd.recipes.reading.sides import TeacherData
from keras_kd.recipes.reading.snapshots import Snapshots


def is_given(model: str) -> bool:
    """Whether a name refers to a trained model: a file, or the folder of a SavedModel."""
    if model.endswith((".keras", ".tflite", ".npz")):
        return True
    try:
        return (Path(model) / "saved_model.pb").exists()
    except (OSError, ValueError):  # not a path: a name that is too long, or contains a NUL
        return False


class Data(Section):
    """The data source and its splits, see `keras_kd.data.open_source`; and the curriculum of the distilled students.

    `teacher` is what differs for a teacher that sees other inputs; null if teacher and student see the same.
    """

    source: str = "digits"
    data_dir: str | None = None
    train: str | float | None = None
    validation: str | float | None = None
    test: str | float | None = None
    image_size: Annotated[tuple[int, int] | None, list_as_tuple] = None
    value_range: Annotated[tuple[float, float], list_as_tuple] = (0.0, 1.0)
    task: NameOrSettings | None = None
    curriculum: AnyCurriculum | None = None
    teacher: TeacherData | None = None


class Training(Section):
    """The training of one model.

    With `replace_head`, a `.keras` file for other classes gets a new head and is trained; `unfreeze` freezes the lower
    layers at first, see `keras_kd.transfer.unfreeze_gradually`.
    """

    model: ModelName
    epochs: int = Field(ge=1, le=1_000_000)
    batch_size: int = Field(default=64, ge=1, le=1_000_000)
    optimizer: str = "adam"
    learning_rate: float = Field(default=1e-3, gt=0, le=1000)
    learning_rate_decay: Literal["none", "cosine"] = "cosine"
    weight_decay: float | None = Field(default=None, ge=0, le=1000)
    replace_head: bool = False
    unfreeze: dict[int, str | None] | None = None

    @field_validator("replace_head")
    @classmethod
    def _only_a_file_has_another_head(cls, value: bool, info: ValidationInfo) -> bool:
        if value and not str(info.data.get("model", "")).endswith(".keras"):
            raise ValueError("false, or a .keras file as the model")
        return value

    @field_validator("unfreeze", mode="before")
    @classmethod
    def _from_the_first_epoch(cls, value: Any) -> Any:
        is_mapping = isinstance(value, dict) and all(
            type(epoch) is int and epoch >= 0 and isinstance(path, str | None) for epoch, path in value.items()
        )
        if value is not None and not (is_mapping and value.get(0)):
            raise ValueError("the last frozen layer by epoch, from 0 on, such as {0: block_3, 10: block_1, 20: null}")
        return value

    @property
    def is_trained_file(self) -> bool:
        """Whether the model is a file that is used as it is."""
        return self.model.endswith(".keras") and not self.replace_head

    def settings(self, **options: Any) -> dict[str, Any]:
        """What the result of the training depends on; without the keys of transfer where they are not used."""
        unused = {name for name in ("replace_head", "unfreeze") if not getattr(self, name)}
        return self.model_dump(include=set(Training.model_fields) - unused, **options)


class Teacher(Training):
    """The teacher: trained here or loaded from a file; alone, in an ensemble, or at several times; and its precision.

    `model` may also be a `.tflite` file, the folder of a SavedModel, an `.npz` file with the logits of the training
    images, or a function that returns a `keras_kd` teacher. None of these is trained, and `epochs` is None.
    """

    epochs: int | None = Field(ge=1, le=1_000_000)
    dtype: Literal["float32", "bfloat16"] | None = None
    ensemble_with: Annotated[tuple[ModelName, ...], list_as_tuple] = ()
    weights: Annotated[Literal["confidence", "label_loss"] | tuple[float, ...] | None, list_as_tuple] = None
    combine: Literal["probabilities", "logits"] = "probabilities"
    snapshots: Snapshots | None = None


class Student(Training):
    """The student. With `epochs: null`, a trained `.keras` file, which is compressed but not trained before that."""

    epochs: int | None = Field(ge=1, le=1_000_000)

    @field_validator("epochs")
    @classmethod
    def _only_a_file_is_not_trained(cls, epochs: int | None, info: ValidationInfo) -> int | None:
        if epochs is None and not str(info.data.get("model", "")).endswith(".keras"):
            raise ValueError("a whole number, or null for a trained .keras file, which is then only compressed")
        return epochs

    @model_validator(mode="after")
    def _a_new_head_is_trained(self) -> Student:
        if self.epochs is None and (self.replace_head or self.unfreeze):
            raise ValueError("a number of epochs, since replace_head and unfreeze are for a training")
        return self


class Cache(Section):
    """The cache of teacher outputs on disk, see `keras_kd.teachers.CachedTeacher.build`.

    Without a `folder`, it is in the run folder.
    """

    views: int = Field(default=1, ge=1, le=100_000)
    top_k: int | None = Field(default=None, ge=1)
    remainder: Literal["uniform", "renormalized", "sampled"] = "uniform"
    folder: str | None = None


class Distillation(Section):
    """Alpha and temperature, as numbers or as schedules such as `{name: cosine, start: 0.9, end: 0.1}`; and losses.

    A schedule without `steps` covers the whole training. `losses` are those of `keras_kd.losses`, by name or as
    `{name: hint, teacher: stage_3, student: stage_2, weight: 100}`; the default is the soft-target loss. `adversary`
    perturbs the student's inputs in each step; `supervise` selects the inputs on which the labels train.
    """

    method: Literal["distiller"] = "distiller"
    alpha: Scheduled = 0.5
    temperature: Scheduled = 4.0
    losses: Annotated[
        tuple[NameOrSettings, ...] | None, list_as_tuple, not_empty("at least one loss, or null for soft targets")
    ] = None
    adversary: AnyAdversary | None = None
    supervise: Literal["clean", "adversarial"] = "clean"


INHERITED = ("losses", "adversary", "supervise")


AnyDistillation = by_method(Distillation, SelfTaught, Mutual, DataFree)


class FewLabels(Distillation):
    """The comparison with few labels: this many labeled training images, the others without a label.

    Without `losses`, `adversary` or `supervise`, those of `distillation` are used.
    """

    method: ClassVar[str] = "distiller"

    num_labels: int = Field(default=100, ge=1)


def _check_fractions(value: float | dict[str, float] | None) -> float | dict[str, float] | None:
    numbers = value.values() if isinstance(value, dict) else [] if value is None else [value]
    if not all(0 < number < 1 for number in numbers):
        raise ValueError("above 0 and below 1, for all layers or for each by path")
    return value


class CompressionStep(Section):
    """A technique that compresses the student while it is trained further.

    Without a learning rate, it is that of the student.
    """

    epochs: int = Field(ge=1, le=1_000_000)
    learning_rate: float | None = Field(default=None, gt=0, le=1000)


class Pruning(CompressionStep):
    """Pruning of the distilled student, see `keras_kd.compression.Pruning`.

    The sparsity rises along a cubic curve over the first half of the training, and is kept in the second. It may be
    left out for a pattern that has its own, such as `"2:4"`, and given for each layer by path.
    """

    name: Literal["pruning"]
    sparsity: Annotated[float | dict[str, float] | None, AfterValidator(_check_fractions)] = None
    pattern: str = "unstructured"
    scope: Literal["layer", "global"] = "layer"
    score: Literal["magnitude", "movement"] = "magnitude"


class ChannelPruning(CompressionStep):
    """Removal of channels from the distilled student, see `keras_kd.compression.ChannelPruning`.

    Exactly one of `operations` and `parameters` is the fraction to keep. A latency cannot be a target here: it differs
    from one measurement to the next, so that an interrupted run would resume with another model.
    """

    name: Literal["channel_pruning"]
    operations: float | None = Field(default=None, gt=0, lt=1)
    parameters: float | None = Field(default=None, gt=0, lt=1)
    score: Literal["group_norm", "l1", "l2", "batch_norm", "random"] = "group_norm"
    scope: Literal["global", "local"] = "global"
    multiple_of: int = Field(default=1, ge=1, le=1024)


class Clustering(CompressionStep):
    """Clustering of the weights of the distilled student, see `keras_kd.compression.Clustering`."""

    name: Literal["clustering"]
    clusters: int = Field(default=16, ge=2, le=65_536)
    start: Literal["kmeans++", "density", "linear", "random"] = "kmeans++"
    per_channel: bool = False


class QuantizationAware(CompressionStep):
    """Quantization-aware training of the distilled student, see `keras_kd.compression.QuantizationAware`.

    The ranges of activations and the statistics of batch normalizations stay as they are in the last fifth of the
    training.
    """

    name: Literal["quantization_aware"]
    bits: Literal[4, 8] = 8
    activation_bits: Literal[8, 16] = 8
    algorithm: Literal["moving_average", "lsq"] = "moving_average"
    skip: Annotated[tuple[str, ...], list_as_tuple] = ()


AnyCompressionStep = Annotated[ChannelPruning | Pruning | Clustering | QuantizationAware, Field(discriminator="name")]

Format = Literal[tuple(FORMATS)]
_unique = AfterValidator(lambda values: tuple(dict.fromkeys(values)))


class FileMetadata(Section):
    """What is written into the exported files for people; labels and normalization are those of the data."""

    description: str = Field(default="", max_length=10_000)
    version: str = Field(default="", max_length=100)
    author: str = Field(default="", max_length=1_000)
    license: str = Field(default="", max_length=10_000)


class Export(Section):
    """The files to export for the phone."""

    formats: Annotated[tuple[Format, ...], list_as_tuple, _unique, not_empty("at least one format")] = (
        "float32",
        "int8",
    )
    mixed: dict[str, Literal[Mixed.choices]] | None = Field(default=None, min_length=1)
    calibration_samples: int = Field(default=200, ge=1, le=1_000_000)
    max_accuracy_drop: float | None = Field(default=None, ge=0, le=1e6)
    num_threads: int = Field(default=1, ge=1, le=256)
    metadata: FileMetadata = FileMetadata()


class Recipe(Section):
    """A whole run: data, teacher, student, distillation, export."""

    name: str = Field(default="digits", max_length=100, pattern=r"^\w[\w.-]*$")
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    output_dir: str | None = None
    data: Data
    augment: Annotated[tuple[NameOrSettings, ...], list_as_tuple] = ()
    teacher: Teacher | None
    assistants: Annotated[tuple[Training, ...], list_as_tuple] = ()
    guidance: Literal["previous", "all"] = "previous"
    drop: float = Field(default=0.0, ge=0, lt=1)
    student: Student
    cache: Cache | None = None
    distillation: AnyDistillation = Distillation()
    few_labels: FewLabels | None = None
    compress: Annotated[tuple[AnyCompressionStep, ...], list_as_tuple] = ()
    export: Export = Export()
    measure: Measure = Measure()

    @model_validator(mode="before")
    @classmethod
    def _some_methods_need_no_teacher(cls, value: Any) -> Any:
        """Makes `teacher` optional, or null, for these methods only."""
        if not isinstance(value, dict) or value.get("teacher") is not None:
            return value
        distillation = value.get("distillation")
        method = distillation.get("method") if isinstance(distillation, dict) else None
        others = {key: section for key, section in value.items() if key != "teacher"}
        return {"teacher": None, **others} if method in ("self", "mutual") else others

    @model_validator(mode="before")
    @classmethod
    def _a_given_model_needs_no_epochs(cls, value: Any) -> Any:
        """Makes `epochs` optional for a teacher from a file, or from a function, which may return a trained one."""
        if isinstance(value, dict) and isinstance(teacher := value.get("teacher"), dict):
            model = str(teacher.get("model", ""))
            if is_given(model) or ":" in model or model.lower().endswith(FOREIGN):
                return {**value, "teacher": {"epochs": None, **teacher}}
        return value

    @model_validator(mode="before")
    @classmethod
    def _few_labels_take_the_losses(cls, value: Any) -> Any:
        """Fills in what `few_labels` leaves out, or sets to null, of the losses and the adversary."""
        if not isinstance(value, dict) or not isinstance(few := value.get("few_labels"), dict):
            return value
        distillation = value.get("distillation")
        distillation = distillation if isinstance(distillation, dict) else {}
        shared = {key: distillation[key] for key in INHERITED if key in distillation}
        return {**value, "few_labels": shared | {k: v for k, v in few.items() if k not in INHERITED or v is not None}}

    @property
    def has_own_teacher(self) -> bool:
        """Whether the student learns from `teacher`; if not, a given one is only measured."""
        return self.distillation.method in ("distiller", "data_free")

    @property
    def folder(self) -> Path:
        """The run folder: `output_dir`, or `saved_models/NAME`."""
        return Path(self.output_dir) if self.output_dir else Path("saved_models") / self.name
