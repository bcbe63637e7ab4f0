"""Distiller losses on inner layers."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.callbacks import Resume
from keras_kd.errors import ConfigurationError, Notice, TeacherError
from keras_kd.losses import (
    ContrastiveKD,
    FlowOfSolution,
    Hint,
    KnowledgeReview,
    SoftTargets,
    VariationalInformation,
    Weighted,
)

L = keras.layers

PROJECTED = "Projectors from the student's features"


def from_logits():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(width, *, size=8, **settings):
    """A nested model of two stages with `width` channels, followed by a head."""
    x = keras.Input((size, size, 1))
    y = L.Conv2D(width, 3, strides=size // 8, padding="same", name="conv", **settings)(x)
    y = L.ReLU(name="relu", **settings)(L.BatchNormalization(name="norm", **settings)(y))
    body = keras.Model(x, L.Conv2D(width, 3, strides=2, name="down", **settings)(y), name="body")
    z = keras.Input((size, size, 1))
    features = L.GlobalAveragePooling2D(name="pool", **settings)(body(z))
    return keras.Model(z, L.Dense(10, name="head", **settings)(features))


@keras.saving.register_keras_serializable("test_taps")
class Subclassed(keras.Model):
    def __init__(self, width, **settings):
        super().__init__(**settings)
        self.width = width
        self.stages = [L.Conv2D(width, 3, strides=2), L.Conv2D(width, 2)]
        self.pool, self.head = L.GlobalAveragePooling2D(), L.Dense(10)

    def call(self, x):
        for stage in self.stages:
            x = keras.ops.relu(stage(x))
        return self.head(self.pool(x))

    def get_config(self):
        return {**super().get_config(), "width": self.width}


def hints():
    return [
        SoftTargets(),
        Hint(teacher="body/relu", student="body/relu"),
        Hint(teacher="body/down:input", student="body/down:input"),
        Hint(teacher="body", student="body", metric="cosine"),
        Hint(teacher="pool", student="pool"),
    ]


def distiller_of(teacher, student, losses=None, *, optimizer=None, compile_with=None, **settings):
    with pytest.warns(Notice, match=PROJECTED):
        distiller = kd.Distiller(teacher, student, losses=losses or hints(), **settings)
    settings = (
        {"run_eagerly": True} if compile_with is None else compile_with
    )  # compiling takes longer than these steps
    distiller.compile(optimizer or keras.optimizers.Adam(0.01), loss=from_logits(), **settings)
    return distiller


def copy_of(model):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def assert_same_weights(one, other, **tolerance):
    for ours, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, **(tolerance or {"atol": 1e-6}))


def projector_variables(distiller):
    return [variable for term in distiller.terms for variable in term.trainable_variables]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="compares TensorFlow's count; JAX traces once more")
def test_one_forward_pass_each_however_many_taps(digits):
    calls = []

    class Counting(L.Layer):
        def call(self, x):
            calls.append(self.name)
            return x

    teacher = keras.Sequential([keras.Input((8, 8, 1)), Counting(name="teacher"), network(6)])
    student = keras.Sequential([keras.Input((8, 8, 1)), Counting(name="student"), network(4)])
    inner = (teacher.layers[-1].name, student.layers[-1].name)
    losses = [
        SoftTargets(),
        *(
            Hint(teacher=f"{inner[0]}/{path}", student=f"{inner[1]}/{path}")
            for path in ("body/relu", "body/down:input", "body", "pool")
        ),
    ]
    distiller = distiller_of(teacher, student, losses)
    calls.clear()
    history = distiller.fit(digits[0][:24], digits[1][:24], batch_size=8, verbose=0).history
    assert sorted(calls) == ["student"] * 3 + ["teacher"] * 3
    terms = [values[0] for name, values in history.items() if name.startswith(("hint", "soft"))]
    assert len(terms) == 5 and min(terms) > 0
    assert history["distillation_loss"][0] == pytest.approx(sum(terms), rel=1e-5)


def test_batch_norm_statistics_are_those_of_plain_training(digits):
    x, y = digits[0][:64], digits[1][:64]
    plain = network(4)
    student = copy_of(plain)
    plain.compile(keras.optimizers.SGD(0.05), loss=from_logits())
    plain.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    distiller = distiller_of(network(6), student, alpha=0.0, optimizer=keras.optimizers.SGD(0.05))
    distiller.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    assert_same_weights(plain, student)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="compares TensorFlow's gradient tape")
def test_a_step_with_a_projector_of_the_users_is_that_of_a_tape_by_hand(digits):
    x, y, weight = digits[0][:16], digits[1][:16], np.linspace(0.5, 2, 16).astype("float32")
    teacher, student = network(6), network(4)
    by_hand, projector = copy_of(student), L.Dense(6)
    distiller = kd.Distiller(
        teacher, student, losses=Hint(teacher="body/relu", student="body/relu", projector=projector), alpha=0.6
    )
    distiller.compile(keras.optimizers.SGD(0.1), loss=from_logits())
    own = L.Dense(6)
    own.build((None, 8, 8, 4))
    own.set_weights(projector.get_weights())

    relu = keras.Model(teacher.get_layer("body").inputs[0], teacher.get_layer("body").get_layer("relu").output)(x)
    body = by_hand.get_layer("body")
    both = keras.Model(body.inputs[0], [body.get_layer("relu").output, body.output])
    with tf.GradientTape() as tape:
        features, last = both(x, training=True)
        logits = by_hand.get_layer("head")(by_hand.get_layer("pool")(last))
        cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
        hint = tf.reduce_mean(tf.square(relu - (features @ own.kernel + own.bias)), axis=(1, 2, 3))
        loss = tf.reduce_mean(weight * (0.4 * cross_entropy + 0.6 * hint))
    variables = [*by_hand.trainable_variables, *own.trainable_variables]
    keras.optimizers.SGD(0.1).apply(tape.gradient(loss, variables), variables)

    logs = distiller.train_on_batch(x, y, sample_weight=weight, return_dict=True)
    assert logs["loss"] == pytest.approx(float(loss), rel=1e-5)
    assert_same_weights(student, by_hand)
    assert_same_weights(projector, own)
    assert not np.array_equal(projector.bias, np.zeros(6))


def test_the_projector_is_trained_and_belongs_to_the_distiller_alone(digits, tmp_path):
    distiller = distiller_of(network(6), network(4))
    inside, of_student = distiller.trainable_variables, distiller.student.trainable_variables
    own = projector_variables(distiller)
    assert len(own) == 4 * 3  # per projector: a kernel and two variables of the normalization
    assert {id(variable) for variable in own} <= {id(variable) for variable in inside}
    assert len(inside) == len(of_student) + len(own)
    assert not {id(variable) for variable in own} & {id(variable) for variable in distiller.student.variables}
    before = [np.array(variable) for variable in own]
    distiller.fit(digits[0][:32], digits[1][:32], verbose=0)
    assert all(np.any(one != np.array(variable)) for one, variable in zip(before, own, strict=True))
    distiller.student.save(tmp_path / "student.keras")
    student = keras.models.load_model(tmp_path / "student.keras")
    assert_same_weights(student, distiller.student, atol=0)
    assert [layer.name for layer in student.layers[1:]] == ["body", "pool", "head"]


@pytest.mark.parametrize("in_file", [True, False])
def test_a_loaded_distiller_trains_on_as_if_never_stopped(digits, tmp_path, in_file):
    x, y = digits[0][:32], digits[1][:32]
    teacher = network(6)
    teacher.save(tmp_path / "teacher.keras")
    distiller = distiller_of(tmp_path / "teacher.keras" if in_file else teacher, network(4))
    distiller.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    distiller.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    assert_same_weights(loaded, distiller, atol=0)
    if not in_file:
        with pytest.raises(TeacherError, match="distiller.teacher = model"):
            loaded.fit(x, y, verbose=0)
        loaded.teacher = teacher
    assert_same_weights(loaded, distiller, atol=0)
    histories = [model.fit(x, y, batch_size=16, shuffle=False, verbose=0).history for model in (distiller, loaded)]
    assert histories[1] == {name: pytest.approx(values, rel=1e-5) for name, values in histories[0].items()}
    assert_same_weights(loaded, distiller)


def test_a_projector_of_the_users_comes_back(digits, tmp_path):
    losses = [Hint(teacher="pool", student="pool", projector=L.Dense(6))]
    teacher = network(6)
    distiller = kd.Distiller(teacher, network(4), losses=losses)
    distiller.compile("sgd", loss=from_logits())
    distiller.fit(digits[0][:16], digits[1][:16], verbose=0)
    distiller.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    loaded.teacher = teacher
    assert_same_weights(loaded, distiller, atol=0)
    assert len(loaded.trainable_variables) == len(distiller.trainable_variables)


def test_resume_restores_the_projector(digits, tmp_path):
    x, y = digits[0][:32], digits[1][:32]

    def make():
        keras.utils.set_random_seed(1)
        return distiller_of(network(6), network(4))

    def fit(distiller, *callbacks, first_epoch=0, epochs=3):
        settings = {"batch_size": 16, "shuffle": False, "verbose": 0, "callbacks": list(callbacks)}
        distiller.fit(x, y, initial_epoch=first_epoch, epochs=epochs, **settings)

    whole = make()
    fit(whole)
    fit(make(), Resume(tmp_path, every_seconds=0, keep_finished=True), epochs=1)
    resumed, resume = make(), Resume(tmp_path, every_seconds=0)
    fresh = [np.array(variable) for variable in projector_variables(resumed)]
    assert resume.restore(resumed) == 1
    assert any(np.any(one != np.array(v)) for one, v in zip(fresh, projector_variables(resumed), strict=True))
    fit(resumed, resume, first_epoch=1)
    assert_same_weights(resumed, whole, atol=0)


@pytest.mark.parametrize("built", [True, False])
def test_subclassed_teacher_and_student(digits, built):
    x, y = digits[0][:64], digits[1][:64]
    teacher, student = Subclassed(6), Subclassed(4)
    teacher(x[:2])
    if built:
        student(x[:2])
    losses = [
        Hint(teacher="stages/0", student="stages/0", name="first"),
        Hint(teacher="stages/1:input", student="stages/1:input", name="second"),
        SoftTargets(),
    ]
    teacher = kd.teachers.FrozenTeacher(teacher, outputs="logits")
    if built:
        with pytest.warns(Notice, match=PROJECTED):
            distiller = kd.Distiller(teacher, student, losses=losses, student_outputs="logits")
    else:
        distiller = kd.Distiller(teacher, student, losses=losses, student_outputs="logits")
    distiller.compile(keras.optimizers.Adam(0.02), loss=from_logits())
    history = distiller.fit(x, y, batch_size=16, epochs=3, verbose=0).history
    assert history["first"][-1] < history["first"][0] and history["second"][-1] < history["second"][0]
    own = projector_variables(distiller)
    assert len(own) == 6
    assert {id(variable) for variable in own} <= {id(variable) for variable in distiller.trainable_variables}
    assert {id(variable) for variable in own} <= {id(v) for v in distiller.optimizer._trainable_variables}


def test_half_precision_student_with_a_float32_teacher(digits):
    student = network(4, dtype="mixed_float16")
    distiller = distiller_of(network(6), student)
    assert isinstance(distiller.optimizer, keras.optimizers.LossScaleOptimizer)
    history = distiller.fit(digits[0][:128], digits[1][:128], epochs=3, verbose=0).history
    assert np.isfinite(history["loss"]).all() and history["hint_pool"][-1] < history["hint_pool"][0]
    assert {variable.dtype for variable in projector_variables(distiller)} == {"float32"}


@pytest.mark.parametrize("settings", [{"jit_compile": True}, {"steps_per_execution": 2}])
def test_ways_of_running_agree(digits, settings):
    x, y = digits[0][:32], digits[1][:32]
    teacher, student = network(6), network(4)
    runs = []
    for compile_with in (None, settings):
        keras.utils.set_random_seed(2)
        losses, optimizer = hints()[1:4:2], keras.optimizers.SGD(0.05)
        runs.append(distiller_of(teacher, copy_of(student), losses, optimizer=optimizer, compile_with=compile_with))
        runs[-1].fit(x, y, batch_size=8, shuffle=False, verbose=0)
    assert_same_weights(*runs, atol=2e-5)


def test_a_teacher_of_another_input_size(digits):
    teacher = network(6, size=16)
    losses = [Hint(teacher="body/conv", student="body/conv"), SoftTargets()]
    distiller = distiller_of(
        teacher, network(4), losses, teacher_inputs=lambda x: keras.ops.repeat(keras.ops.repeat(x, 2, 1), 2, 2)
    )
    logs = distiller.train_on_batch(digits[0][:8], digits[1][:8], return_dict=True)
    assert logs["hint_body_conv"] > 0
    pair = distiller_of(network(6), network(4), [Hint(teacher="body", student="body/relu"), SoftTargets()])
    assert pair.terms[0].projection.startswith("resize to 3x3, 1x1 convolution to 6 channels")


def test_losses_by_mapping_and_the_notice_of_what_was_picked(digits):
    losses = [
        {"name": "hint", "teacher": "body/relu", "student": "body/relu", "weight": 2.0},
        {"name": "hint", "teacher": "pool", "student": "pool", "projector": "linear"},
        "soft_targets",
    ]
    with pytest.warns(Notice) as record:
        distiller = kd.Distiller(network(6), network(4), losses=losses)
    (message,) = [str(notice.message) for notice in record]
    assert record[0].filename == __file__
    assert message == (
        f"{PROJECTED} to the teacher's shape: "
        "hint_body_relu: 1x1 convolution to 6 channels + batch normalization; "
        "hint_pool: linear to 6 channels + batch normalization."
    )
    assert distiller.terms[0].weight == 2.0
    distiller.compile(keras.optimizers.SGD(0.0), loss=from_logits(), run_eagerly=True)
    x, y = digits[0][:8], digits[1][:8]
    logs = distiller.train_on_batch(x, y, return_dict=True)
    distiller.terms[0].weight = 4.0
    distiller.reset_metrics()
    again = distiller.train_on_batch(x, y, return_dict=True)
    assert again["hint_body_relu"] == pytest.approx(2 * logs["hint_body_relu"], rel=1e-5)
    own = {id(v) for v in projector_variables(distiller)}
    assert own <= {id(v) for v in distiller.trainable_variables}  # also inside a Weighted


def test_equal_shapes_need_no_projector_and_no_notice():
    distiller = kd.Distiller(network(4), network(4), losses=hints())
    assert projector_variables(distiller) == []


def test_what_does_not_exist_is_refused_at_once():
    for losses, message in (
        (Hint(teacher="body/rule", student="body/relu"), "The teacher.*'body/rule'.*'body/relu'"),
        (Hint(teacher="body/relu", student="relu"), "The student.*'relu'.*'body/relu'"),
        (Hint(teacher="body/relu", student="pool"), "cannot be converted to the same shape"),
        (Hint(teacher="body/relu", student="body/relu", projector=None), "projector=None"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            kd.Distiller(network(6), network(4), losses=losses)


def test_another_teacher_without_these_layers_is_refused(digits, make_model):
    teacher = network(6)
    distiller = distiller_of(teacher, network(4))
    before = distiller.teacher
    with pytest.raises(ConfigurationError, match="The teacher.*'body/relu'"):
        distiller.teacher = make_model(6)
    assert distiller.teacher is before
    distiller.train_on_batch(digits[0][:8], digits[1][:8])
    distiller.teacher = network(6)
    distiller.train_on_batch(digits[0][:8], digits[1][:8])


def test_another_teacher_of_other_widths_is_refused():
    distiller = distiller_of(network(6), network(4))
    with pytest.raises(ConfigurationError):
        distiller.teacher = network(8)  # the projectors map to 6 channels


@pytest.mark.parametrize("loss", [FlowOfSolution, ContrastiveKD, VariationalInformation, KnowledgeReview])
def test_what_was_learned_for_other_features_is_not_taken_on(loss):
    places = (
        ["body/relu", "pool"] if loss is KnowledgeReview else ["body/relu", "body"] if loss.several_taps else "pool"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        distiller = kd.Distiller(network(6), network(4), losses=[loss(teacher=places, student=places)])
    distiller.teacher = network(6)
    with pytest.raises(ConfigurationError, match="was built for other features.*new Distiller"):
        distiller.teacher = network(8)


def test_the_projectors_of_a_loss_on_several_layers_are_told():
    loss = FlowOfSolution(teacher=["body/relu", "body"], student=["body/relu", "body"])
    with pytest.warns(
        Notice, match="flow_of_solution_body_relu_body: 1x1 convolution to 6 channels.* and 1x1 convolution"
    ):
        kd.Distiller(network(6), network(4), losses=[Weighted(loss, 0.5)])


def test_rows_of_weight_0_count_for_nothing(digits):
    """Without batch statistics, which include all rows in any Keras training."""
    x, y = digits[0][:12], digits[1][:12]
    weight = np.float32([1, 0, 2] * 4)
    other = x.copy()
    other[weight == 0] = 5.0
    teacher, student = network(6), network(4)
    student.get_layer("body").get_layer("norm").trainable = False
    states = []
    for data in (x, other):
        copy, projector = copy_of(student), L.Dense(6, kernel_initializer="ones")
        copy.get_layer("body").get_layer("norm").trainable = False
        losses = [Hint(teacher="body/relu", student="body/relu", projector=projector)]
        distiller = kd.Distiller(teacher, copy, losses=losses)
        distiller.compile(keras.optimizers.SGD(0.1), loss=from_logits(), run_eagerly=True)
        logs = distiller.train_on_batch(data, y, sample_weight=weight, return_dict=True)
        states.append((distiller, logs))
    assert_same_weights(states[0][0], states[1][0])
    assert states[0][1]["hint_body_relu"] == pytest.approx(states[1][1]["hint_body_relu"], rel=1e-6)


def test_batches_without_labels(digits):
    distiller = distiller_of(network(6), network(4), alpha=1.0)
    data = tf.data.Dataset.from_tensor_slices((digits[0][:64],)).batch(16)
    history = distiller.fit(data, epochs=3, shuffle=False, verbose=0).history
    assert "student_loss" not in history and history["loss"][-1] < history["loss"][0]
    assert history["hint_body_relu"][-1] < history["hint_body_relu"][0]
