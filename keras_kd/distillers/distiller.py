"""`Distiller`: a Keras model that trains a student to match a teacher."""

from __future__ import annotations

import warnings
from typing import Any

import keras

from keras_kd.adversaries import Adversary
from keras_kd.data.pairs.selection import Selection, check_selection
from keras_kd.distillers import checks, notices
from keras_kd.distillers.contract import StepContract, Trackers
from keras_kd.distillers.defaults import DefaultTerms, check_targets
from keras_kd.distillers.keras_methods import KerasMethods
from keras_kd.distillers.robust.attack import Attack, on_adversarial
from keras_kd.distillers.supervision import check_supervised_loss
from keras_kd.distillers.terms import build_terms, check_names
from keras_kd.distillers.unlabeled import LabelDeclarations
from keras_kd.errors import ConfigurationError, Notice
from keras_kd.features import ModelOutputs, find_heads, find_place, inner_taps, name_outputs, output_shapes
from keras_kd.features.tracing import ensure_built, trace
from keras_kd.hyperparameters import DEFAULT_ALPHA, DEFAULT_TEMPERATURE, Hyperparameter
from keras_kd.losses import get as get_loss
from keras_kd.serialization import deserialize, register, serialize
from keras_kd.teachers import AbsentTeacher, as_teacher, check_fingerprint
from keras_kd.untracked import Untracked

_ALPHA_HINT = "Alpha is the weight of the TEACHER; student_loss_weight of keras.distillation is 1 - alpha."


@register
class Distiller(StepContract, Attack, KerasMethods, checks.training_step(), keras.Model):
    """Trains a student on labels and on a teacher's outputs for the same inputs.

    `loss = (1 - alpha) * supervised + alpha * sum(weight * term) + sum(student.losses)`, with an alpha of 1 for
    examples without a label.

    The supervised part is the compiled loss. The default term of each output follows from its loss: the soft-target
    loss `T^2 * KL(teacher || student)` for a cross-entropy, the same difference for `MeanSquaredError`,
    `MeanAbsoluteError` and `Huber`; for any other loss, see `compile`.
    Compile and fit it like any Keras model; `evaluate`, `predict` and `validation_data` apply to the student alone.
    Batches without labels, `(x,)`, train on the teacher only, with an alpha of 1. In a labeled batch, an example
    without a label has the class that the compiled loss ignores (`SparseCategoricalCrossentropy(ignore_class=-1)`), or
    a row of zeros in place of class probabilities (`CategoricalCrossentropy`). The logs contain `loss`, `student_loss`
    (the supervised part), `distillation_loss` (the sum of the terms over all examples, before alpha), each term by
    name, and `alpha`.

    Source: Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015.

    Args:
        teacher: a Keras model, the path of a `.keras` file, or a `keras_kd.teachers` teacher. It is never changed, and
            never saved with the distiller, which stores only its path and fingerprint.
        student: the Keras model to train.
        alpha: the weight of the TEACHER, 0 to 1: a number, a schedule of `keras_kd.schedules`, or any
            `keras.optimizers.schedules.LearningRateSchedule`. It may be set at any time.
        temperature: softens both sides of the default term, above 0; a number or a schedule, as for alpha.
        losses: the distillation terms, one or a list: losses of `keras_kd.losses` (objects, names, or mappings with
            name, settings and weight), of `keras.distillation`, or functions `(teacher, student) -> [batch]`. They may
            read inner layers of both models by path. None compares every output that both models have, by the term that
            follows from its compiled loss.
        teacher_inputs, student_inputs: what each model takes, if these differ: a key of the batch's `x`, such as
            `"teacher"` and `"student"` of `kd.data.pair`, or a function of `x`. With a key, `evaluate`, `predict` and
            `validation_data` also accept the student's input alone.
        student_outputs: `"logits"`, `"softmax"`, `"sigmoid"` or `"probabilities"` (a softmax, or a sigmoid for a single
            unit); needed if the student's last layer does not determine it.
        adversary: perturbs the inputs in each step to make the student fail: one of `keras_kd.adversaries`. Losses read
            the outputs for the perturbed inputs as `"adversarial"`; by default, the student's are compared with the
            teacher's for the clean inputs.
        supervise: the inputs on which the labels train: `"clean"` or `"adversarial"`.

    Raises:
        ConfigurationError: models or settings do not fit together.
        TeacherError: the teacher's file is missing.
    """

    def __init__(
        self,
        teacher: Any,
        student: keras.Model,
        *,
        alpha: Any = DEFAULT_ALPHA,
        temperature: Any = DEFAULT_TEMPERATURE,
        losses: Any = None,
        teacher_inputs: Selection = None,
        student_inputs: Selection = None,
        student_outputs: str | None = None,
        adversary: Adversary | None = None,
        supervise: str = "clean",
        name: str = "distiller",
        **unknown: Any,
    ):
        checks.refuse_arguments(unknown)
        checks.check_backend()
        checks.check_student(student)
        checks.check_losses(losses)
        super().__init__(name=name, dtype=checks.policy_of(student), autocast=False)
        self.student = student
        check_selection("teacher_inputs", teacher_inputs)
        check_selection("student_inputs", student_inputs)
        self.teacher_inputs = teacher_inputs
        self.student_inputs = student_inputs
        self.student_outputs = student_outputs
        self.supervise = supervise
        self._adversary = adversary
        self._alpha = Hyperparameter("alpha", alpha, at_least=0.0, at_most=1.0, fix=_ALPHA_HINT)
        self._temperature = Hyperparameter("temperature", temperature, at_least=1e-3)
        has_no_layers_yet = isinstance(student, keras.Sequential) and not student.built  # until the first batch
        self._heads = None if has_no_layers_yet else find_heads(student, student_outputs, role="student")
        self._student_shapes = output_shapes(student)
        self._compiled_loss = None
        self._teacher = as_teacher(teacher)
        self.teacher_state = self._teacher.state  # tracked, unlike the teacher
        self._defaults = DefaultTerms() if losses is None else losses if isinstance(losses, DefaultTerms) else None
        self.kept_terms = [] if self._defaults is None else list(self._defaults.kept)  # tracked, unlike the defaults
        self._take_terms(self._make_terms(losses))
        if self._heads is not None:
            notices.show_where_logits_come_from(self.teacher, self._heads, stacklevel=2)
        notices.show_projectors(self.terms, stacklevel=2)
        if student.built:
            self.built = True

    # Settable properties.

    @property
    def alpha(self):
        """The weight of the teacher: a number or a schedule. A new number takes effect with the next step."""
        return self._alpha.value

    @alpha.setter
    def alpha(self, value):
        self._alpha.set(value)

    @property
    def temperature(self):
        """The temperature of terms that do not set one: a number or a schedule."""
        return self._temperature.value

    @temperature.setter
    def temperature(self, value):
        self._temperature.set(value)

    @property
    def teacher(self):
        """The teacher. If it was missing after loading, it can be set again; its fingerprint must match."""
        return self._teacher

    @teacher.setter
    def teacher(self, value):
        if isinstance(self.teacher, AbsentTeacher):
            check_fingerprint(value, self.teacher.fingerprint)
        previous, self._teacher = self._teacher, value
        try:
            checks.check_can_learn(self.student, value)
            self._teacher_taps, self._student_places = self._find_taps()
            if self._compiled_loss is not None and self._student_is_known:
                self._follow_the_loss()
        except ConfigurationError:
            self._teacher = previous
            raise

    def __setattr__(self, name, value):
        if name == "teacher":  # Keras would track a model before the property above sees it
            value = as_teacher(value)
        super().__setattr__(name, value)

    # Building, compiling, saving.

    def build(self, input_shape):
        """Does nothing: the student is built by its first call, the losses once shapes are known."""

    def compile(self, optimizer="rmsprop", loss=None, **settings):
        """Compiles like `keras.Model.compile`, for the student; without a `loss`, only the teacher is used.

        The default terms follow from `loss`, output by output: see `distillers.defaults.terms_that_follow`.

        Raises:
            ConfigurationError: a cross-entropy would treat the student's logits as probabilities, or the reverse; no
                default term follows from the loss; the student has nothing to train, or shares weights with the
                teacher.
        """
        checks.check_can_learn(self.student, self.teacher)
        if settings.get("jit_compile") is True and not self.teacher.supports_jit:
            raise ConfigurationError("jit_compile=True, but the teacher has layers that XLA cannot compile.")
        self._compiled_loss = Untracked(loss)
        if self._student_is_known:
            self._follow_the_loss()
        super().compile(optimizer=optimizer, loss=loss, **settings)

    def compile_from_config(self, config):
        self.compile(**deserialize(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def get_config(self):
        return {
            "name": self.name,
            "teacher": serialize(self.teacher),
            "student": serialize(self.student),
            "alpha": self._alpha.get_config(),
            "temperature": self._temperature.get_config(),
            "losses": [serialize(term) for term in self.terms],
            "losses_are_default": self._defaults is not None,
            "teacher_inputs": serialize(self.teacher_inputs),
            "student_inputs": serialize(self.student_inputs),
            "student_outputs": self.student_outputs,
            "adversary": serialize(self.adversary),
            "supervise": self.supervise,
        }

    @classmethod
    def from_config(cls, config):
        settings = {name: deserialize(value) for name, value in config.items()}
        are_default = settings.pop("losses_are_default", False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)  # already shown when the distiller was made
            distiller = cls(**settings)
        distiller._defaults = DefaultTerms() if are_default else None
        return distiller

    # The terms, once the outputs of the student are known.

    def _inspect_student(self, x):
        """Finds the final layers of a student that is unbuilt or has no layer graph, from the first batch."""
        ensure_built(self, x)
        heads = find_heads(self.student, self.student_outputs, role="student")
        shapes = output_shapes(self.student)
        if shapes is None:
            shapes = {name: tuple(value.shape) for name, value in name_outputs(trace(self, x)).items()}
        self._student_shapes = {name: (None, *shape[1:]) for name, shape in shapes.items()}
        self._heads = {name: heads.get(name) or heads["*"] for name in shapes}
        checks.check_can_learn(self.student, self.teacher)
        notices.show_where_logits_come_from(self.teacher, self._heads, stacklevel=2)
        self._take_terms(self.terms if self._defaults is None else self._make_terms(self._defaults))
        self._follow_the_loss()

    def _follow_the_loss(self):
        """Checks the compiled loss against the student's outputs, and derives the default terms from it."""
        loss = self._compiled_loss.value
        self._check_attack()
        check_supervised_loss(loss, self._heads)
        terms = self.terms
        if self._defaults is not None:
            ends = self.teacher.activations
            terms = self._defaults.that_follow(loss, terms, self._heads, self._student_shapes, ends)
        check_targets(terms, self.teacher)
        self._take_terms(terms)
        self._label_declarations = LabelDeclarations(loss, self._heads, 0.0 if self.teacher.needs_labels else 1.0)

    def _take_terms(self, terms):
        if self._defaults is None:
            self.terms = terms
        else:  # they have no weights, and Keras does not track new layers in a built model
            object.__setattr__(self, "terms", terms)
        self._teacher_taps, self._student_places = self._find_taps()
        names = [term.name for term in terms] + self._more_logs
        self.trackers = Trackers(["loss", "student_loss", "distillation_loss", *names])

    def _make_terms(self, losses):
        if self._defaults is not None:
            terms = self._defaults.provisional(self.teacher.output_shapes, self._student_shapes, self._heads)
            terms = terms if self.adversary is None else on_adversarial(terms)
        else:
            terms = [get_loss(loss) for loss in (losses if isinstance(losses, (list, tuple)) else [losses])]
        check_names(terms)
        return terms

    def _find_taps(self):
        """Builds the terms; returns the paths they read in the teacher and the places they read in the student."""
        self._check_attack()
        teacher_taps = self.teacher.inner_taps(self._inner_names("teacher"))
        student_taps = inner_taps(self.student, self._inner_names("student"), role="student")
        build_terms(
            self.terms,
            self._with_adversarial_shape(ModelOutputs(self.teacher.output_shapes, teacher_taps)),
            self._with_adversarial_shape(ModelOutputs(self._student_shapes, student_taps)),
        )
        tapped = {**teacher_taps, **student_taps} if self.teacher.reads_student else student_taps
        return tuple(teacher_taps), tuple(find_place(self.student, path) for path in tapped)
