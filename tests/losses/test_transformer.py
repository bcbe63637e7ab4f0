"""Transformer distillation against float64 NumPy written from the paper, and on two small transformers."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_kd as kd
from keras_kd.errors import ConfigurationError
from keras_kd.losses import Context, SoftTargets
from keras_kd.losses.transformer import TransformerLayers, attention_scores, embeddings, hidden_states, layer_map
from keras_kd.serialization import deserialize, serialize


def masked_mean(teacher, student, count):
    """The mean over the elements for which `count(row, *index)` is true, one by one."""
    losses = []
    for row, (t, s) in enumerate(zip(teacher, student, strict=True)):
        squares = [(t[index] - s[index]) ** 2 for index in np.ndindex(t.shape) if count(row, *index)]
        losses.append(sum(squares) / max(len(squares), 1))
    return np.array(losses)


def expected_scores(mask):
    def reference(teacher, student):
        teacher, student = (np.where(scores <= -1e2, 0.0, scores) for scores in (teacher, student))
        return masked_mean(teacher, student, lambda b, h, q, k: mask is None or (mask[b, q] and mask[b, k]))

    return reference


def expected_states(mask):
    return lambda teacher, student: masked_mean(teacher, student, lambda b, t, c: mask is None or mask[b, t])


def padding(batch, tokens):
    """A mask of rows with `tokens`, `tokens - 1`, ... unpadded tokens."""
    return np.arange(tokens)[None] < (tokens - np.arange(batch))[:, None]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_scores_match_the_formula(assert_matches_the_formula, batch, masked):
    teacher, student = np.random.default_rng(0).normal(size=(2, batch, 2, 4, 4)) * 3
    teacher[:, 0, 1, 2], student[:, 1, 0, 0] = -1e4, -500.0  # additive masks of the model
    mask = padding(batch, 4) if masked else None
    assert_matches_the_formula(lambda t, s: attention_scores(t, s, mask), expected_scores(mask), teacher, student)


@pytest.mark.parametrize("function", [hidden_states, embeddings])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_states_match_the_formula(assert_matches_the_formula, batch, masked, function):
    teacher, student = np.random.default_rng(0).normal(size=(2, batch, 4, 3))
    mask = padding(batch, 4) if masked else None
    assert_matches_the_formula(lambda t, s: function(t, s, mask), expected_states(mask), teacher, student)


def test_rows_of_padding_alone_are_0():
    nothing = np.zeros((2, 3), bool)
    np.testing.assert_array_equal(hidden_states(np.ones((2, 3, 4)), np.zeros((2, 3, 4)), nothing), [0, 0])
    np.testing.assert_array_equal(attention_scores(np.ones((2, 1, 3, 3)), np.zeros((2, 1, 3, 3)), nothing), [0, 0])


@pytest.mark.parametrize(
    ("kind", "num_teacher", "num_student", "expected"),
    [
        ("uniform", 12, 4, [2, 5, 8, 11]),  # TinyBERT-4: g(m) = 3m
        ("uniform", 12, 6, [1, 3, 5, 7, 9, 11]),
        ("uniform", 5, 2, [1, 4]),
        ("uniform", 3, 3, [0, 1, 2]),
        ("last", 12, 4, [8, 9, 10, 11]),
        ([0, 7], 8, 2, [0, 7]),
    ],
)
def test_layer_maps(kind, num_teacher, num_student, expected):
    assert layer_map(kind, num_teacher, num_student) == expected


@pytest.mark.parametrize("kind", ["uniform", "last", [0], [0, 1, 2], [0, -1, 1, 1]])
def test_layers_that_cannot_be_paired_are_refused(kind):
    with pytest.raises(ConfigurationError, match="2 layers of the teacher and 4 of the student"):
        layer_map(kind, 2, 4)


def test_an_unknown_layer_map_is_refused():
    with pytest.raises(ConfigurationError, match="'first'.*'uniform', 'last'"):
        TransformerLayers(hidden=(["a"], ["b"]), layer_map="first")


# The class.

PATHS = {
    "attention": (["t1:raw_scores", "t2:raw_scores"], "s1:raw_scores"),
    "hidden": (["t1", "t2"], ["s1"]),
    "embeddings": ("te", "se"),
}
SCORES, WIDE, NARROW = (2, 4, 4), (4, 5), (4, 3)


def draw(*shapes, batch=3, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(batch, *shape)).astype("float32") for shape in shapes]


def test_reads_the_layers_of_the_layer_map():
    assert TransformerLayers(**PATHS).teacher == ("t2:raw_scores", "t2", "te")
    first = TransformerLayers(**PATHS, layer_map=[0], token_ids="ids")
    assert first.teacher == ("t1:raw_scores", "t1", "te")
    assert first.student == ("s1:raw_scores", "s1", "se", "ids")


@pytest.mark.parametrize("projector", ["auto", "linear"])
def test_sums_the_parts_with_one_shared_projection(projector):
    loss = TransformerLayers(**PATHS, projector=projector)
    teacher, student = draw(SCORES, WIDE, WIDE), draw(SCORES, NARROW, NARROW, seed=1)
    value = float(loss(teacher, student))
    (layer,) = loss._projections
    assert (layer.kernel.shape, layer.bias.shape, loss.projection) == ((3, 5), (5,), "linear from 3 to 5 channels")
    student[1:] = [x @ np.float64(layer.kernel) + np.float64(layer.bias) for x in student[1:]]
    terms = [expected_scores(None)(teacher[0], student[0])]
    terms += [expected_states(None)(t, s) for t, s in zip(teacher[1:], student[1:], strict=True)]
    assert value == pytest.approx(sum(terms).mean(), rel=1e-5)


def test_equal_widths_are_projected_only_on_request():
    maps = draw(SCORES, WIDE, WIDE)
    loss = TransformerLayers(**PATHS)
    assert float(loss(maps, maps)) == 0.0 and loss.projection is None
    loss = TransformerLayers(**PATHS, projector="linear")
    assert float(loss(maps, maps)) > 0.0 and loss.projection == "linear from 5 to 5 channels"


def test_padding_is_read_from_the_token_ids():
    ids = np.array([[3, 1, 2, 4], [5, 6, 0, 0], [7, 0, 0, 0]])
    loss = TransformerLayers(**PATHS, token_ids="embedding:input")
    teacher, student = draw(SCORES, WIDE, WIDE), draw(SCORES, WIDE, WIDE, seed=1)
    mask = ids != 0
    terms = [expected_scores(mask)(teacher[0], student[0])]
    terms += [expected_states(mask)(t, s) for t, s in zip(teacher[1:], student[1:], strict=True)]
    assert float(loss(teacher, [*student, ids])) == pytest.approx(sum(terms).mean(), rel=1e-5)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_padding_is_read_from_the_keras_mask_of_any_tap(number):
    mask = padding(3, 4)
    loss = TransformerLayers(**PATHS)
    teacher, student = draw(SCORES, WIDE, WIDE), draw(SCORES, WIDE, WIDE, seed=1)
    plain = float(loss(teacher, student))
    student = [keras.ops.convert_to_tensor(x) for x in student]
    student[number]._keras_mask = keras.ops.convert_to_tensor(mask)
    terms = [expected_scores(mask)(teacher[0], np.array(student[0]))]
    terms += [expected_states(mask)(t, np.array(s)) for t, s in zip(teacher[1:], student[1:], strict=True)]
    assert float(loss(teacher, student)) == pytest.approx(sum(terms).mean(), rel=1e-5) != plain


def check(loss, teacher, student):
    shaped = [[keras.KerasTensor((None, *shape)) for shape in shapes] for shapes in (teacher, student)]
    loss.validate_outputs(*shaped)


@pytest.mark.parametrize(
    ("teacher", "student", "message"),
    [
        ([(3, 4, 4), WIDE, WIDE], [SCORES, WIDE, WIDE], "numbers of heads differ, omit attention="),
        ([WIDE, WIDE, WIDE], [WIDE, WIDE, WIDE], "'t2:raw_scores' and 's1:raw_scores'.*'attention:raw_scores'"),
        ([SCORES, (6, 5), WIDE], [SCORES, WIDE, WIDE], "'t2' and 's1' are not hidden states.*same tokens"),
        ([SCORES, WIDE], [SCORES, WIDE, WIDE], "wrong number of tensors"),
    ],
    ids=["heads", "not scores", "tokens", "number"],
)
def test_incompatible_shapes_are_refused(teacher, student, message):
    with pytest.raises(ConfigurationError, match=message):
        check(TransformerLayers(**PATHS), teacher, student)


def test_unknown_lengths_are_accepted_and_different_widths_need_a_projector():
    shapes = [(2, None, None), (None, 5), (None, 5)], [SCORES, NARROW, NARROW]
    check(TransformerLayers(**PATHS), *shapes)
    with pytest.raises(ConfigurationError, match="without a projector, the same channels"):
        check(TransformerLayers(**PATHS, projector=None), *shapes)


@pytest.mark.parametrize(
    "settings",
    [{}, {"hidden": "block_1"}, {"hidden": (["a"], [])}, {"embeddings": (["a", "b"], ["c", "d"])}],
    ids=["nothing", "one path", "empty", "two embeddings"],
)
def test_invalid_roles_are_refused(settings):
    with pytest.raises(ConfigurationError):
        TransformerLayers(**settings)


def test_config_round_trip():
    loss = TransformerLayers(**PATHS, layer_map=[0], projector="linear", token_ids="ids", name="layers")
    again = deserialize(serialize(loss))
    assert serialize(again) == serialize(loss)
    assert (again.teacher, again.student, again.roles) == (loss.teacher, loss.student, loss.roles)
    assert TransformerLayers(**PATHS).name == "transformer_layers"


# In training.


def transformer(width, depth):
    """A sequence classifier with two heads, post-norm like BERT."""
    inputs = keras.Input((None,), dtype="int32", name="ids")
    x = layers.Embedding(20, width, mask_zero=True, name="embedding")(inputs)
    for block in range(1, depth + 1):
        attended = layers.MultiHeadAttention(2, width // 2, name=f"attention_{block}")(x, x)
        x = layers.LayerNormalization(name=f"norm_{block}")(layers.Add()([x, attended]))
        y = layers.Dense(width, activation="gelu", name=f"dense_{block}")(x)
        x = layers.LayerNormalization(name=f"block_{block}")(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(3, name="logits")(x))


def paths(name, depth):
    return [name.format(block) for block in range(1, depth + 1)]


def test_trains_in_a_distiller_and_stays_out_of_the_student(tmp_path):
    teacher, student = transformer(8, 4), transformer(4, 2)
    loss = TransformerLayers(
        attention=(paths("attention_{}:raw_scores", 4), paths("attention_{}:raw_scores", 2)),
        hidden=(paths("block_{}", 4), paths("block_{}", 2)),
        embeddings=("embedding", "embedding"),
        token_ids="embedding:input",
    )
    with pytest.warns(kd.errors.Notice, match="transformer_layers: linear from 4 to 8 channels"):
        distiller = kd.Distiller(teacher, student, losses=[SoftTargets(), loss])
    assert loss.teacher[:2] == ("attention_2:raw_scores", "attention_4:raw_scores")
    distiller.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    kernel, size = np.array(loss._projections[0].kernel), student.count_params()
    x = np.array([[3, 4, 5, 0], [6, 7, 0, 0], [8, 9, 10, 11]], "int32")
    logs = distiller.fit(x, np.array([0, 1, 2]), verbose=0).history
    assert np.isfinite(list(logs.values())).all() and logs["transformer_layers"][0] > 0
    assert np.abs(np.array(loss._projections[0].kernel) - kernel).max() > 0
    assert student.count_params() == size
    student.save(tmp_path / "student.keras")
    again = keras.models.load_model(tmp_path / "student.keras")
    assert again.count_params() == size
    np.testing.assert_allclose(again(x), student(x), rtol=1e-6)

    teacher.save(tmp_path / "teacher.keras")
    with pytest.warns(kd.errors.Notice, match="Projectors"):
        saved = kd.Distiller(str(tmp_path / "teacher.keras"), student, losses=[deserialize(serialize(loss))])
    saved.save(tmp_path / "distiller.keras")
    (loaded,) = keras.models.load_model(tmp_path / "distiller.keras").terms
    np.testing.assert_array_equal(loaded._projections[0].kernel, saved.terms[0]._projections[0].kernel)


def test_values_in_padding_have_no_influence():
    student = transformer(4, 1)
    loss = TransformerLayers(hidden=("block_1", "block_1"), token_ids="embedding:input")
    distiller = kd.Distiller(student, student, losses=[loss])
    x = np.array([[3, 4, 0, 0], [5, 0, 0, 0]])
    _, student_outputs = distiller.study(x)
    states = np.array(student_outputs.taps["block_1"])
    changed = states + np.where(x[..., None] == 0, 7.0, 0.0)
    ids = student_outputs.taps["embedding:input"]
    assert float(loss([changed], [states, ids], context=Context())) == 0.0
    assert float(loss([states + 1.0], [states, ids], context=Context())) == pytest.approx(1.0, rel=1e-6)
