"""The result of a chain: the trained models and a record of each training."""

from __future__ import annotations

import dataclasses

import keras

from keras_kd.tables import format_table


@dataclasses.dataclass(frozen=True)
class TrainingRecord:
    """One training of a chain.

    Attributes:
        name: of the model that was trained.
        teachers: the names of its teachers.
        parameters: the number of parameters of the model, including non-trainable ones.
        epochs: the number of epochs.
        seconds: of training and validation, across all interruptions.
        metrics: on the validation data after the last epoch, by name; empty without validation data.
        best: the best value of each metric over the epochs (the smallest if its name contains loss, error or
            divergence).
        history: the logs of `fit` by name, one value per epoch.
    """

    name: str
    teachers: tuple[str, ...]
    parameters: int
    epochs: int
    seconds: float
    metrics: dict[str, float]
    best: dict[str, float]
    history: dict[str, list[float]] = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Chain:
    """The result of `distill_chain`; prints as a table with one line per training.

    Attributes:
        models: the trained models in order, the student last.
        trainings: the record of each training.
    """

    models: tuple[keras.Model, ...]
    trainings: tuple[TrainingRecord, ...]

    @property
    def student(self) -> keras.Model:
        """The last model."""
        return self.models[-1]

    def __repr__(self) -> str:
        metrics = self.trainings[0].metrics
        metric = next((name for name in ("accuracy", *metrics) if name in metrics), None)
        head = ("model", "parameters", "taught by", "epochs", "seconds", *((metric, "best") if metric else ()))
        rows = [head]
        for record in self.trainings:
            values = (f"{record.metrics[metric]:.4f}", f"{record.best[metric]:.4f}") if metric else ()
            sizes = (f"{record.parameters:,}", ", ".join(record.teachers), str(record.epochs), f"{record.seconds:.0f}")
            rows.append((record.name, *sizes, *values))
        return format_table(rows)
