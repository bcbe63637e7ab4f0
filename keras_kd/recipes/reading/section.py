"""What all sections of a recipe share: strict types, and the kinds of values that several of them contain."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

FOREIGN = (".h5", ".hdf5", ".pb", ".pt", ".pth", ".onnx", ".ckpt", ".safetensors", ".pkl")


class Section(BaseModel):
    """A part of a recipe; unknown keys, values of another type, NaN and infinity are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


# A frozen section holds tuples, and YAML gives lists.
list_as_tuple = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)


def not_empty(expected: str) -> AfterValidator:
    """Refuses an empty list whose items are valid (pydantic's `min_length` also counts invalid items as missing)."""

    def check(values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        if values == ():
            raise ValueError(expected)
        return values

    return AfterValidator(check)


def _check_format(name: str) -> str:
    """Raises `ValueError` for a file in an unsupported format."""
    if name.lower().endswith(FOREIGN):
        raise ValueError("a .keras file, which model.save('NAME.keras') writes of a model that Keras has loaded")
    return name


NameOrSettings = str | dict[str, Any]
Scheduled = float | dict[str, Any]
ModelName = Annotated[str, AfterValidator(_check_format)]
