"""Several teachers combined into one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_kd.errors import ConfigurationError, TeacherError, check_choice, check_integer, check_number, explain
from keras_kd.features import ModelOutputs
from keras_kd.features.outputs import ONLY_OUTPUT
from keras_kd.features.shapes import same_shape
from keras_kd.serialization import register
from keras_kd.teachers.base import Batch
from keras_kd.teachers.several import combining, subsets
from keras_kd.teachers.several.group import Group
from keras_kd.teachers.several.learned_weights import labeled, log_likelihoods, logit_weights, mixture_weights
from keras_kd.teachers.several.weights import confidence_weights, label_loss_weights

RULES = ("confidence", "label_loss", "learned")


@register
class Ensemble(Group):
    """The weighted mean of several teachers' probabilities or logits, see `combine`.

    Members have one output each, or outputs of the same names, which are combined by name. Inner layers of a member are
    prefixed with its index, `"0/stage_3"`.

    Args:
        members: teachers, Keras models, or paths of `.keras` files.
        weights: the weight of each member. None: equal weights. A list of numbers: normalized by their sum.
            `"confidence"`: per example, by entropy, see `confidence_weights`. `"label_loss"`: per example, by the
            cross-entropy to its label, see `label_loss_weights`. `"learned"`: numbers found by `learn`.
        combine: what to average: `"probabilities"` (returned as logits) or `"logits"`.
        inputs: for each member, a function from the batch's `x` to the member's, such as `Resized(64, 64)`, or None.
        classes: for each member, the class ids of its outputs, or None for all in order, see `combine_subsets`.
            Requires numeric weights.
        activation: `"softmax"` for exclusive classes, `"sigmoid"` for independent outputs.
        num_classes: with `classes`, the total number of classes; None takes that of a member that knows all classes,
            else the highest id plus one.

    Raises:
        ConfigurationError: members or settings that do not fit together; a member that runs outside the training step.

    >>> models = [keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]) for _ in range(2)]
    >>> ensemble = Ensemble(models, weights=[3, 1])
    >>> ensemble.weights, ensemble.output_shapes
    ((0.75, 0.25), {'output': (None, 3)})
    """

    def __init__(
        self,
        members: Sequence[Any],
        *,
        weights: Sequence[float] | str | None = None,
        combine: str = "probabilities",
        inputs: Sequence[Callable[[Any], Any] | None] | None = None,
        classes: Sequence[Sequence[int] | None] | None = None,
        activation: str = "softmax",
        num_classes: int | None = None,
    ):
        super().__init__(members, inputs=inputs)
        self.combine = check_choice("combine", combine, combining.COMBINATIONS)
        self.activation = check_choice("activation", activation, combining.ACTIVATIONS)
        self.classes = None if classes is None else subsets.check_ids(self.one_for_each("classes", classes))
        self.num_classes = subsets.count(self.classes, num_classes, [member.output_shapes for member in self.members])
        self.weights = weights
        self._check_activations()
        self._shapes = self._find_shapes()

    @classmethod
    def from_folder(cls, folder: str | Path, *, last: int | None = None, **settings: Any) -> Ensemble:
        """An ensemble of the `.keras` files in a folder, such as the snapshots of a training.

        Args:
            folder: with the members, in the order of the numbers in their names.
            last: take only so many of the last ones.
            settings: as for the class.

        Raises:
            ConfigurationError: no `.keras` files, or fewer than `last`; members or settings that do not fit together.
            TeacherError: a file is damaged.
        """
        folder = Path(folder)
        found = folder.iterdir() if folder.is_dir() else ()
        paths = sorted((path for path in found if path.suffix == ".keras" and path.name[0] != "."), key=_in_order)
        wanted = 1 if last is None else check_integer("last", last, at_least=1)
        if len(paths) < wanted:
            raise ConfigurationError(
                explain(
                    "The folder has too few members.",
                    received=f"{len(paths)} .keras files in {folder}",
                    expected=f"at least {wanted}",
                )
            )
        return cls(paths if last is None else paths[-last:], **settings)

    @property
    def weights(self) -> tuple[float, ...] | str | None:
        """The normalized weight of each member, a rule, or None for equal weights.

        They may be set at any time; a distiller uses the new ones at the next step.
        """
        return self._weights

    @weights.setter
    def weights(self, value: Sequence[float] | str | None):
        weights = self._normalized(value)
        self._check_subsets(weights)
        self._weights = weights
        self._learns = weights == "learned"

    @property
    def traced_settings(self) -> Any:
        return [self.weights, self.combine, super().traced_settings]

    def __call__(self, batch: Batch, taps: Sequence[str] = ()) -> ModelOutputs:
        if self.weights == "learned":
            raise TeacherError(
                explain(
                    "The weights of this ensemble have not been learned yet.",
                    received="weights='learned'",
                    fix="Call ensemble.learn(x, y) with labeled data before the distillation.",
                )
            )
        outputs, inner = self.run_members(batch, taps)
        named = self._by_name(outputs)
        return ModelOutputs({name: self._combined(name, logits, batch.y) for name, logits in named.items()}, inner)

    @property
    def reads_labels(self) -> bool:
        return self.weights == "label_loss"

    def learn(self, x: Any, y: Any, *, batch_size: int = 128) -> Ensemble:
        """Learns fixed weights from labeled data, preferably data that the members were not trained on.

        See `mixture_weights` (mean of probabilities) and `logit_weights` (mean of logits).

        Args:
            x: arrays `[n, ...]` as in a batch, optionally in a dict or tuple.
            y: labels as for `label_loss_weights`; unlabeled rows are ignored.

        Returns:
            The ensemble itself.

        Raises:
            ConfigurationError: the weights are not `"learned"`, there are several outputs, or no labels.
        """
        if not self._learns:
            raise ConfigurationError(
                explain(
                    "This ensemble does not learn its weights.",
                    received=f"weights={self.weights!r}",
                    expected="Ensemble(members, weights='learned')",
                )
            )
        logits, targets = labeled(self._all_logits(x, batch_size), y, self.activation)
        if not len(targets):
            raise ConfigurationError(explain("The weights are learned from labels.", received="no row with a label"))
        if self.combine == "probabilities":
            learned = mixture_weights(log_likelihoods(logits, targets, self.activation))
        else:
            learned = logit_weights(logits, targets, self.activation)
        self._weights = tuple(float(weight) for weight in learned)
        return self

    @property
    def output_shapes(self) -> dict[str, tuple[int | None, ...]] | None:
        return self._shapes

    @property
    def activations(self) -> dict[str, str]:
        return dict.fromkeys(self._shapes or (), "linear")

    @property
    def only_of_classes(self) -> str | None:
        return "Ensemble(..., combine='logits') averages outputs." if self.combine == "probabilities" else None

    def get_settings(self) -> dict[str, Any]:
        return {
            "weights": list(self.weights) if isinstance(self.weights, tuple) else self.weights,
            "combine": self.combine,
            **super().get_settings(),
            "classes": self.classes,
            "activation": self.activation,
            "num_classes": self.num_classes,
        }

    # Outputs.

    def _by_name(self, outputs: list[dict[str, Any]]) -> dict[str, list[Any]]:
        """The members' logits (or shapes) for each of the ensemble's outputs."""
        names = [list(named) for named in outputs]
        if all(len(own) == 1 for own in names):
            name = names[0][0] if all(own == names[0] for own in names) else ONLY_OUTPUT
            return {name: [next(iter(named.values())) for named in outputs]}
        for index, own in enumerate(names):
            if set(own) != set(names[0]):
                raise ConfigurationError(
                    explain(
                        "The members do not have the same outputs.",
                        received=f"{names[0]} of member 0, {own} of member {index}",
                        expected="one output each, or the same names",
                        fix="Use a Panel, where each member keeps its own outputs.",
                    )
                )
        return {name: [named[name] for named in outputs] for name in names[0]}

    def _combined(self, name: str, logits: list[Any], labels: Any) -> Any:
        self._check_shapes(name, [tuple(z.shape) for z in logits])
        if self.classes is not None:
            weights = self._equal if self.weights is None else self.weights
            settings = self.num_classes, self.combine, self.activation
            return combining.combine_subsets(logits, weights, self.classes, *settings)
        logits = ops.stack([ops.cast(z, "float32") for z in logits])
        weights = self._weights_for(name, logits, labels)
        return combining.combine(logits, weights, self.combine, self.activation)

    def _weights_for(self, name: str, logits: Any, labels: Any) -> Any:
        if self.weights == "confidence":
            return confidence_weights(logits, self.activation)
        if self.weights == "label_loss":
            if isinstance(labels, dict):
                labels = next(iter(labels.values())) if len(labels) == 1 else labels.get(name)
            return label_loss_weights(logits, labels, self.activation)
        return self._equal if self.weights is None else self.weights

    @property
    def _equal(self) -> tuple[float, ...]:
        return (1.0 / len(self.members),) * len(self.members)

    def _all_logits(self, x: Any, batch_size: int) -> np.ndarray:
        """The members' logits for all of `x`, `[members, n, ...]`."""
        num_examples = len(keras.tree.flatten(x)[0])
        parts = []
        for start in range(0, num_examples, batch_size):
            rows = slice(start, start + batch_size)
            part = keras.tree.map_structure(lambda array, rows=rows: ops.convert_to_tensor(array[rows]), x)
            named = self._by_name(self.run_members(Batch(part), ())[0])
            if len(named) > 1:
                raise ConfigurationError(
                    explain("Weights are learned for one output.", received=f"members with {sorted(named)}")
                )
            parts.append([ops.convert_to_numpy(z) for z in next(iter(named.values()))])
        return np.stack([np.concatenate(of_member) for of_member in zip(*parts, strict=True)])

    # Checks at construction.

    def _normalized(self, weights: Any) -> tuple[float, ...] | str | None:
        if weights is None or isinstance(weights, str):
            return check_choice("weights", weights, [None, *RULES])
        weights = self.one_for_each("weights", weights)
        numbers = [check_number(f"weights[{i}]", weight, at_least=0.0) for i, weight in enumerate(weights)]
        if sum(numbers) == 0:
            raise ConfigurationError(
                explain("All ensemble weights are zero.", received=f"weights={weights}", expected="a sum above 0")
            )
        return tuple(number / sum(numbers) for number in numbers)

    def _check_subsets(self, weights: tuple[float, ...] | str | None) -> None:
        """Raises if `classes` cannot be combined with these weights and the other settings."""
        if self.classes is None:
            return
        if isinstance(weights, str) or (self.combine, self.activation) == ("logits", "softmax"):
            raise ConfigurationError(
                explain(
                    "Members that know different classes cannot be combined in this way: their entropies, losses and "
                    "logits are not comparable.",
                    received=f"weights={weights!r}, combine={self.combine!r}, activation={self.activation!r}",
                    expected="weights that are numbers or None, and combine='probabilities' (or activation='sigmoid')",
                )
            )

    def _check_activations(self) -> None:
        """Raises if a member ends in a different activation than the ensemble's."""
        for index, member in enumerate(self.members):
            for name, activation in member.activations.items():
                if activation in combining.ACTIVATIONS and activation != self.activation:
                    raise ConfigurationError(
                        explain(
                            f"Member {index} does not fit activation={self.activation!r}.",
                            received=f"an output {name!r} that ends in {activation}",
                            fix=f"Ensemble(..., activation={activation!r}), or a Panel where these differ.",
                        )
                    )

    def _find_shapes(self) -> dict[str, tuple[int | None, ...]] | None:
        shapes = [member.output_shapes for member in self.members]
        if None in shapes:
            return None
        named = self._by_name(shapes)
        for name, of_members in named.items():
            self._check_shapes(name, of_members)
        last = () if self.num_classes is None else (self.num_classes,)
        return {name: (*shape[0][: -1 if last else None], *last) for name, shape in named.items()}

    def _check_shapes(self, name: str, shapes: list[tuple[int | None, ...]]) -> None:
        """Raises if the members' logits cannot be combined."""
        if self.classes is None:
            if any(not same_shape(shape, shapes[0]) for shape in shapes):
                raise ConfigurationError(
                    explain(
                        f"The members' outputs {name!r} differ in shape.",
                        received=", ".join(map(str, shapes)),
                        expected="the same number of classes",
                        fix="List the classes that each member knows in classes=[...], or use a Panel.",
                    )
                )
        else:
            subsets.check_widths(self.classes, self.num_classes, shapes)
        if self.activation == "softmax" and self.classes is None and shapes[0][-1] == 1:
            raise ConfigurationError(
                explain(
                    "The softmax of a single output is always 1.",
                    received=f"{name!r} of shape {shapes[0]}",
                    fix="Ensemble(..., activation='sigmoid').",
                )
            )


def _in_order(path: Path) -> list[tuple[int, str]]:
    """
    >>> sorted([Path("net-10.keras"), Path("net-9.keras")], key=_in_order)[0].name
    'net-9.keras'
    """
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]
