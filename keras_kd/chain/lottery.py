"""Lottery-ticket rounds: train, prune a part of what is left, rewind the rest, repeat."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_kd.chain.links import for_each, teacher_name
from keras_kd.chain.progress import RunProgress
from keras_kd.chain.result import Chain
from keras_kd.chain.settings import Settings
from keras_kd.chain.training import Training
from keras_kd.chain.training_file import alone_in
from keras_kd.compression.pruning.pruning import SCOPES
from keras_kd.compression.pruning.rounds import effective_kernels, first_masks, masked, next_masks
from keras_kd.compression.stripping import check_plain, strip
from keras_kd.compression.transform import check_skip, checked_paths, paths_in
from keras_kd.errors import ConfigurationError, check_choice, check_integer, check_number, explain
from keras_kd.hyperparameters import DEFAULT_ALPHA, DEFAULT_TEMPERATURE
from keras_kd.surgery import clone
from keras_kd.teachers import as_teacher


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LotteryTicket(Chain):
    """The result of `lottery_ticket`; prints as a table with one line per training.

    Attributes:
        models: the trained models: the dense one, then one for each round, with zeros in place.
        trainings: the record of each of these trainings.
        sparsities: the fraction of zeros in the prunable kernels of each model.
        rewound: the dense model with the weights to which the kept ones were rewound.
    """

    sparsities: tuple[float, ...]
    rewound: keras.Model


def lottery_ticket(
    model: keras.Model,
    data: Any,
    *,
    rounds: int,
    epochs: int | Sequence[int],
    fraction: float = 0.2,
    rewind: int = 0,
    scope: str = "global",
    skip: Collection[str] = (),
    teacher: Any = None,
    optimizer: Any = "adam",
    loss: Any = None,
    metrics: Any = ("accuracy",),
    compile: Mapping[str, Any] | None = None,
    alpha: Any = DEFAULT_ALPHA,
    temperature: Any = DEFAULT_TEMPERATURE,
    losses: Any = None,
    validation_data: Any = None,
    batch_size: int | None = None,
    folder: str | Path | None = None,
    seed: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: bool = True,
) -> LotteryTicket:
    """Finds a sparse model that trains as well as the dense one, by iterative magnitude pruning with rewinding.

        found = kd.lottery_ticket(model, (x, y), rounds=5, epochs=10, validation_data=(x_val, y_val))
        print(found)
        found.student                                      # 1 - 0.8 ** 5 = 67% zeros

    The model is trained; then, in each round, `fraction` of the weights that are left are pruned, those of smallest
    magnitude; the others go back to their values at the start (or after `rewind` steps), and are trained again. After
    `n` rounds, `(1 - fraction) ** n` of the weights are left.

    With a `folder`, each training is saved there and resumes as in `distill_chain`.

    Sources: J. Frankle & M. Carbin, "The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks", 2019;
    J. Frankle, G. K. Dziugaite, D. M. Roy & M. Carbin, "Linear Mode Connectivity and the Lottery Ticket Hypothesis",
    2020 (`rewind`: deep networks need some steps before the tickets are there).

    Args:
        model: an untrained Functional or Sequential model; it is not changed.
        data: see `distill_chain`.
        rounds: how often to prune, at least 1.
        epochs: of each training, the dense one included: one number, or a list of `rounds + 1`.
        fraction: of the weights that are left, pruned in each round.
        rewind: the number of steps, before the dense training, after which the weights are recorded for rewinding; at
            most as many as the dense training has.
        scope: `"global"`: one ranking of all kernels; `"layer"`: each kernel loses this fraction.
        skip: the paths of layers that are not pruned.
        teacher: trains each of them by distillation; None trains on the labels alone.
        optimizer, loss, metrics, compile, validation_data, batch_size, folder, seed, callbacks, progress: see
            `distill_chain`.
        alpha, temperature, losses: of the distillation, see `Distiller`.

    Raises:
        ConfigurationError: a setting out of range, a model that is not built, is compressed already, or has nothing to
            prune.
    """
    count = check_integer("rounds", rounds, at_least=1) + 1
    fraction = check_number("fraction", fraction, at_least=1e-6, at_most=1 - 1e-6)
    check_choice("scope", scope, SCOPES)
    all_epochs = for_each(epochs, count)
    seed = check_integer("seed", seed, at_least=0)
    settings = Settings(
        optimizer, loss, metrics, dict(compile or {}), alpha, temperature, losses, "previous", 0.0, batch_size, seed
    )
    _check_rewind(check_integer("rewind", rewind, at_least=0), settings.compile)
    check_plain(model)
    skip = checked_paths(skip)
    check_skip(skip, paths_in(model))
    masks = first_masks(model, skip)
    _check_prunable(model, masks)
    teachers = [] if teacher is None else [as_teacher(teacher)]
    names, run = [teacher_name(one) for one in teachers], _Run(settings, folder, data, validation_data, list(callbacks))
    models, records, sparsities = [], [], []
    with alone_in(folder), RunProgress(shown=progress) as shown:
        keras.utils.set_random_seed(seed)  # layers such as Dropout draw a seed when they are made
        rewound = clone(model)
        if rewind:
            start = [*names, f"{rewind:,} steps"]
            run(Training(rewound, teachers, start, all_epochs[0], 0, settings, rewind), shown)
        for index, num_epochs in enumerate(all_epochs, start=int(bool(rewind))):
            keras.utils.set_random_seed(seed + index)
            student = masked(rewound, masks)
            sparsities.append(_sparsity(masks))
            name = f"{100 * sparsities[-1]:.1f}% pruned" if models else "dense"
            record = run(Training(student, teachers, [*names, name], num_epochs, index, settings), shown)
            models.append(strip(student))
            records.append(dataclasses.replace(record, parameters=models[-1].count_params()))
            masks = next_masks(effective_kernels(student), masks, fraction, scope)
    return LotteryTicket(tuple(models), tuple(records), tuple(sparsities), rewound)


@dataclasses.dataclass(frozen=True)
class _Run:
    """What all trainings share."""

    settings: Settings
    folder: str | Path | None
    data: Any
    validation_data: Any
    callbacks: list[Any]

    def __call__(self, training: Training, progress: RunProgress) -> Any:
        folder = self.folder and Path(self.folder)
        return training.run(self.data, self.validation_data, folder, self.callbacks, progress)


def _sparsity(masks: Mapping[Any, np.ndarray]) -> float:
    return 1.0 - sum(float(mask.sum()) for mask in masks.values()) / sum(mask.size for mask in masks.values())


def _check_rewind(rewind: int, compile: Mapping[str, Any]) -> None:
    at_once = compile.get("steps_per_execution", 1)
    if at_once != 1 and rewind % at_once:
        raise ConfigurationError(
            explain(
                "'rewind' is in the middle of an execution.",
                received=f"rewind={rewind}, and steps_per_execution={at_once}",
                expected=f"a multiple of {at_once}, or steps_per_execution=1",
            )
        )


def _check_prunable(model: keras.Model, masks: Mapping[Any, Any]) -> None:
    if not masks:
        raise ConfigurationError(
            explain(
                f"No layer of {model.name!r} can be pruned.",
                received="a model whose trainable kernels are all in 'skip'"
                if first_masks(model)
                else "a model without a trainable kernel",
                expected="at least one layer with a kernel",
            )
        )
