"""The accuracy of a model on adversarial examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_kd import progress
from keras_kd.adversaries import FGSM, PGD, Adversary, objectives
from keras_kd.distillers import Distiller
from keras_kd.distillers.checks import check_backend, training_step
from keras_kd.distillers.robust.checks import check_arrays, check_inputs_and_classes, only_logits
from keras_kd.errors import ConfigurationError, check_integer, explain
from keras_kd.evaluation.runners import KerasRunner, Runner
from keras_kd.features import find_heads, forward, output_shapes
from keras_kd.features.tracing import ensure_built
from keras_kd.tables import format_table
from keras_kd.tasks import Classification

Attacks = Mapping[str, Adversary | Callable[[np.ndarray, np.ndarray], np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Robustness:
    """The result of `robustness`; its text is a table.

    Attributes:
        name: of the model.
        accuracies: the share of examples, 0 to 1, that are classified correctly both as they are and under the attack,
            by the name of the attack; `"clean"` is the first.
        num_examples: the number of examples with a label.
        epsilon: the largest perturbation, in the unit of the inputs.
        norm: of the perturbation.
        restarts: the number of random starts of each attack that has one; an example counts if it withstands all.
    """

    name: str
    accuracies: dict[str, float]
    num_examples: int
    epsilon: float
    norm: str
    restarts: int

    def __str__(self) -> str:
        rows = [(name, f"{100 * value:.2f}") for name, value in self.accuracies.items()]
        head = f"{self.name}: {self.num_examples:,} examples, {self.norm} epsilon {self.epsilon:.6g}"
        restarts = f", {self.restarts} restarts" if self.restarts > 1 else ""
        return f"{head}{restarts}\n{format_table([('attack', 'accuracy %'), *rows], right=['accuracy %'])}"


def robustness(
    model: keras.Model | Runner,
    x: np.ndarray,
    y: np.ndarray,
    epsilon: float = 8 / 255,
    *,
    attacks: Attacks | None = None,
    restarts: int = 1,
    norm: str = "linf",
    value_range: tuple[float, float] = (0.0, 1.0),
    outputs: str | None = None,
    gradients_of: keras.Model | None = None,
    batch_size: int = 128,
    seed: int = 0,
    show_progress: bool = True,
) -> Robustness:
    """Measures the accuracy of a classifier on clean examples and under white-box attacks.

    The result is an upper bound of the accuracy under the best attack: a model may withstand these attacks because its
    gradients are uninformative. Another attack, such as the AutoPGD of a library, can be passed as a function.

    Args:
        model: a Keras model that ends in logits or a softmax, a distiller (its student is measured), or a runner.
        x: `[n, ...]`, floats in the value range.
        y: `[n]` class numbers or one-hot rows; examples with a missing label are left out.
        epsilon: the largest perturbation, in the unit of the inputs.
        attacks: adversaries of `keras_kd.adversaries`, or functions `(x, y) -> perturbed x` of NumPy arrays with class
            numbers, by name. Default: FGSM, and PGD with 20 steps of `epsilon / 8` from a random start.
        restarts: how often each attack with a random start is repeated.
        norm, value_range: of the perturbation, see `keras_kd.adversaries.Adversary`.
        outputs: `"logits"` or `"softmax"`, if the model's last layer does not determine it.
        gradients_of: the model that is attacked if `model` has no gradients, such as a `TFLiteRunner`. Its adversarial
            examples are transferred, which is a weaker attack.
        batch_size: examples per step.
        seed: of the random starts.
        show_progress: whether a bar appears if it takes more than two seconds.

    Raises:
        ConfigurationError: inputs outside the value range, a model with several inputs or outputs, an attack that
            leaves the ball or the value range.

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    >>> _ = model.set_weights([np.array([[1.0, 0.0], [0.0, 1.0]]), np.zeros(2)])
    >>> result = robustness(model, np.array([[0.9, 0.1], [0.5, 0.4]]), np.array([0, 0]), 0.1, show_progress=False)
    >>> result.accuracies
    {'clean': 1.0, 'FGSM': 0.5, 'PGD-20': 0.5}
    """
    restarts, seed = check_integer("restarts", restarts, at_least=1), check_integer("seed", seed, at_least=0)
    settings = {"value_range": value_range, "norm": norm}
    default = {"FGSM": FGSM(epsilon, **settings), "PGD-20": PGD(epsilon, steps=20, **settings)}
    attacks = default if attacks is None else dict(attacks)
    ball = default["FGSM"]
    runner, source = _runner_and_source(model, gradients_of, batch_size)
    x, labels = _labeled(x, y, ball)
    predicted = {"clean": runner.predict(x).argmax(axis=-1)}
    withstands = {"clean": predicted["clean"] == labels}
    total = sum(_times(attack, restarts) for attack in attacks.values()) * len(x)
    with progress.bar("robustness", total, shown=show_progress, after_seconds=2.0) as advance:
        for name, attack in attacks.items():
            withstands[name] = withstands["clean"].copy()
            for restart in range(_times(attack, restarts)):
                if isinstance(attack, Adversary):
                    again = _seeded(attack, seed + restart)
                    moved = adversarial_examples(
                        _needed(source), x, labels, again, outputs=outputs, batch_size=batch_size, advance=advance
                    )
                else:
                    moved = np.asarray(attack(x, labels))
                    advance(len(x))
                _check_in_ball(name, moved, x, ball)
                withstands[name] &= runner.predict(moved).argmax(axis=-1) == labels
    accuracies = {name: float(correct.mean()) for name, correct in withstands.items()}
    return Robustness(runner.name, accuracies, len(x), float(epsilon), norm, restarts)


def adversarial_examples(
    model: keras.Model,
    x: np.ndarray,
    y: np.ndarray,
    adversary: Adversary,
    *,
    outputs: str | None = None,
    batch_size: int = 128,
    advance: Callable[[int], Any] = lambda num_examples: None,
) -> np.ndarray:
    """The inputs as perturbed by an adversary against a model, float32 `[n, ...]`.

    Args:
        model, x, y, outputs, batch_size: see `robustness`.
        adversary: one of `keras_kd.adversaries`; its objective is `"cross_entropy"`, or `"kl"` to the model's own
            outputs for the clean inputs.
        advance: called with the number of finished examples.

    Raises:
        ConfigurationError: see `robustness`.
    """
    check_backend()
    if adversary.objective == "adaptive_kl":
        raise ConfigurationError(
            explain("'adaptive_kl' needs a teacher.", received=repr(adversary), expected="'cross_entropy' or 'kl'")
        )
    x, labels = _labeled(x, y, adversary)
    ensure_built(model, x[:1])
    gradient, probabilities = _compiled(model, outputs, x[:1])
    moved = []
    for number, first in enumerate(range(0, len(x), batch_size)):
        part = ops.convert_to_tensor(x[first : first + batch_size])
        clean = probabilities(part)
        one_hot = ops.one_hot(labels[first : first + batch_size], clean.shape[-1], dtype="float32")
        goal = one_hot if adversary.objective == "cross_entropy" else clean
        moved.append(_perturbed(adversary, part, gradient, goal, number))
        advance(len(part))
    return np.concatenate(moved)


def _perturbed(adversary: Adversary, x: Any, gradient: Any, goal: Any, number: int) -> np.ndarray:
    start = adversary.start(x, number)
    return ops.convert_to_numpy(adversary.perturb(x, lambda moved: gradient(moved, goal), start=start))


def _compiled(model: keras.Model, outputs: str | None, example: Any) -> tuple[Callable, Callable]:
    """The gradient of the cross-entropy to a goal at inputs, and the probabilities, as compiled functions."""
    heads = find_heads(model, outputs, role="model")
    check_inputs_and_classes(model, heads, output_shapes(model))
    step = training_step()

    def logits(x):
        return only_logits(forward(model, heads, x)[1], role="model")

    def gradient(x, goal):
        return step.input_gradient(lambda moved: ops.sum(objectives.cross_entropy(goal, logits(moved))), x)

    def probabilities(x):
        return ops.softmax(ops.cast(logits(x), "float32"), axis=-1)

    return step.compiled(gradient, model.variables), step.compiled(probabilities, model.variables)


def _runner_and_source(model: Any, gradients_of: Any, batch_size: int) -> tuple[Runner, keras.Model | None]:
    if isinstance(model, Distiller):
        model = model.student
    source = model if isinstance(model, keras.Model) else getattr(model, "model", None)
    source = source if gradients_of is None else gradients_of
    if isinstance(model, Runner):
        return model, source
    if isinstance(model, keras.Model):
        return KerasRunner(model, batch_size=batch_size), source
    raise ConfigurationError(
        explain("This cannot be measured.", received=type(model).__name__, expected="a keras.Model or a runner")
    )


def _needed(source: keras.Model | None) -> keras.Model:
    if source is None:
        raise ConfigurationError(
            explain(
                "This runner has no gradients to attack.",
                expected="gradients_of=..., a Keras model from which adversarial examples are transferred",
            )
        )
    return source


def _labeled(x: Any, y: Any, adversary: Adversary) -> tuple[np.ndarray, np.ndarray]:
    """The examples with a label as float32, and their class numbers."""
    x, labels = np.asarray(x), Classification().read(y)
    if len(x) != len(labels):
        raise ConfigurationError(
            explain("Inputs and labels differ in number.", received=f"{len(x)} inputs, {len(labels)} labels")
        )
    if labels.ndim != 1 or not (labels >= 0).any():
        raise ConfigurationError(
            explain(
                "Robustness is measured on labeled examples.",
                received=f"labels of shape {labels.shape}, {int((labels >= 0).sum())} of them known",
                expected="one label for each example",
            )
        )
    check_arrays(adversary, x)
    return x[labels >= 0].astype("float32"), labels[labels >= 0]


def _times(attack: Any, restarts: int) -> int:
    return restarts if isinstance(attack, Adversary) and attack.random_start is not False else 1


def _seeded(adversary: Adversary, seed: int) -> Adversary:
    return dataclasses.replace(adversary, seed=adversary.seed + seed) if isinstance(adversary, PGD) else adversary


def _check_in_ball(name: str, moved: np.ndarray, x: np.ndarray, ball: Adversary) -> None:
    """Raises `ConfigurationError` if perturbed inputs lie outside the ball or the value range."""
    low, high = ball.value_range
    margin = 1e-5 * (high - low)
    if moved.shape == x.shape:
        offset = np.abs(moved.astype("float64") - x).reshape(len(x), -1)
        size = offset.max() if ball.norm == "linf" else np.sqrt(np.square(offset).sum(axis=1)).max()
        if size <= ball.epsilon + margin and low - margin <= moved.min() and moved.max() <= high + margin:
            return
        received = f"a perturbation of {size:.4g} and values from {moved.min():g} to {moved.max():g}"
    else:
        received = f"shape {moved.shape}"
    raise ConfigurationError(
        explain(
            f"The attack {name!r} leaves what it may change.",
            received=received,
            expected=f"shape {x.shape}, at most {ball.epsilon:.4g} in {ball.norm}, values from {low:g} to {high:g}",
        )
    )
