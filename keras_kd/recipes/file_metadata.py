"""The metadata of exported files that follow from a recipe and its data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras

from keras_kd.data import DataSource
from keras_kd.data.sources.records import Scaling
from keras_kd.errors import ConfigurationError
from keras_kd.export import InputInfo, Metadata, OutputInfo
from keras_kd.features import find_heads
from keras_kd.recipes.checked import CheckedRecipe
from keras_kd.tasks import Classification

_BYTE = 255


def file_metadata(checked: CheckedRecipe, model: keras.Model, *, key: str, teacher_fingerprint: str | None) -> Metadata:
    """The metadata of a student: name and labels, the normalization of its input, and how it was made.

    Args:
        checked: the recipe.
        model: the student.
        key: of the stage that exports it, which changes with every setting that the file depends on.
        teacher_fingerprint: of the teacher's weights; None without a teacher.
    """
    recipe = checked.recipe
    return Metadata(
        name=recipe.name,
        **recipe.export.metadata.model_dump(),
        **ends(model, checked.source, recipe.data.value_range),
        provenance={"recipe": {"name": recipe.name, "key": key}} | _taught(recipe, teacher_fingerprint),
    )


def _taught(recipe: Any, teacher_fingerprint: str | None) -> dict[str, Any]:
    """The teacher, and the method unless it is that of a teacher and labeled examples."""
    method = recipe.distillation.method
    teacher = {} if teacher_fingerprint is None else {"teacher": teacher_fingerprint}
    return teacher if method == "distiller" else teacher | {"method": method}


def ends(model: keras.Model, source: DataSource, value_range: tuple[float, float]) -> dict[str, Any]:
    """The `inputs` and `outputs` of the metadata of a model for a data source, opened with this range of values.

    The normalization is left out for a model with several inputs, and the labels for one with several outputs.
    """
    return {
        "inputs": _input(source, value_range) if len(model.inputs) == 1 else {},
        "outputs": output_info(model, source) if len(model.outputs) == 1 else {},
    }


def processed_ends(described: Mapping[str, Any], preprocess: str | None, postprocess: str | None) -> dict[str, Any]:
    """What `ends` returned, for a file that scales pixels (`preprocess`) or ends in softmax or argmax."""
    inputs, outputs = described["inputs"], described["outputs"]
    if preprocess is not None and isinstance(inputs, InputInfo):
        inputs = dataclasses.replace(inputs, description="pixels from 0 to 255", mean=0.0, std=1.0)
    if postprocess is not None and isinstance(outputs, OutputInfo):
        is_index = postprocess == "argmax"
        about = "the number of the class with the largest score, from 0" if is_index else "probabilities"
        outputs = dataclasses.replace(outputs, description=about, labels_are_of_values=is_index)
    return {"inputs": inputs, "outputs": outputs}


def metadata_settings(checked: CheckedRecipe) -> dict[str, Any]:
    """What these metadata depend on besides the data and the models."""
    return {"name": checked.recipe.name, "metadata": checked.recipe.export.metadata.model_dump()}


def _input(source: DataSource, value_range: tuple[float, float]) -> InputInfo:
    scaling, shape = source.train.scaling, source.input_shape
    if scaling == Scaling(dtype=scaling.dtype):
        return InputInfo()
    largest = scaling.divisor * (value_range[1] - value_range[0])
    return InputInfo(
        f"values from 0 to {largest:g} before the normalization",
        mean=0.0 - scaling.offset * scaling.divisor,  # not -0.0
        std=scaling.divisor,
        is_image=len(shape) == 3 and shape[-1] in (1, 3) and round(largest) == _BYTE,
    )


def output_info(model: keras.Model, source: DataSource) -> OutputInfo:
    """The labels of each output of a model, and whether they have logits or probabilities."""
    return OutputInfo(_scores(model) if isinstance(source.task, Classification) else "", source.class_names)


def _scores(model: keras.Model) -> str:
    """Whether the output has logits or probabilities; empty if the layers do not tell."""
    try:
        return "logits" if all(head.is_logits for head in find_heads(model).values()) else "probabilities"
    except ConfigurationError:
        return ""
