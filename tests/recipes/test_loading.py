"""A recipe file and its overrides: the loaded recipe, and one readable message for each kind of mistake."""

import os
import re
import time
from pathlib import Path

import pytest

from keras_kd import recipes
from keras_kd.errors import RecipeError
from keras_kd.recipes.reading.schema import Data, Distillation, Export, FewLabels, Recipe, Student, Teacher

MINIMAL = """
data: {source: digits}
teacher: {model: digits_teacher, epochs: 3}
student: {model: digits_student, epochs: 2}
"""


@pytest.fixture
def load(tmp_path):
    def load(text=MINIMAL, *overrides, **settings):
        file = tmp_path / "recipe.yaml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return recipes.load(file, overrides, **settings)

    return load


def refusal(load, *args):
    """The error message, after the checks common to all of them."""
    with pytest.raises(RecipeError) as caught:
        load(*args)
    message = str(caught.value)
    for jargon in ("pydantic", "http", "Traceback", "validation error", "Input should", "dict[", "None."):
        assert jargon not in message.replace("Received: None.", "")
    assert 20 < len(message) < 300 * (1 + message.count("\n"))
    return message


def test_the_default_recipe_is_what_its_comments_say():
    assert recipes.load() == Recipe(
        name="digits",
        seed=0,
        output_dir=None,
        data=Data(source="digits", value_range=(0.0, 1.0)),
        teacher=Teacher(model="digits_teacher", epochs=40, batch_size=64, learning_rate=0.001),
        student=Student(model="digits_student", epochs=60, batch_size=64, learning_rate=0.005),
        distillation=Distillation(alpha=0.5, temperature=2.0),
        few_labels=FewLabels(num_labels=100, alpha=0.9, temperature=2.0),
        export=Export(formats=("float32", "int8"), calibration_samples=200, num_threads=1),
    )
    assert recipes.load().folder == Path("saved_models/digits")


def test_the_default_recipe_contains_every_key_with_its_default():
    """`keras-kd init` shows every key."""
    recipe = recipes.load()
    for section in (recipe, recipe.data, recipe.teacher, recipe.student, recipe.few_labels, recipe.export):
        for key in type(section).model_fields:
            assert re.search(rf"^ *{key}:", recipes.default_text(), re.MULTILINE), key
    assert recipe.teacher == Teacher(model="digits_teacher", epochs=40)
    assert recipe.export == Export() and recipe.data == Data()


def test_what_is_left_out_has_its_default(load):
    recipe = load()
    assert (recipe.name, recipe.seed, recipe.folder) == ("digits", 0, Path("saved_models/digits"))
    assert recipe.few_labels is None
    assert recipe.distillation == Distillation(alpha=0.5, temperature=4.0)
    assert recipe.student == Student(model="digits_student", epochs=2, optimizer="adam", learning_rate_decay="cosine")


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("student.epochs=5", ("student", "epochs"), 5),
        ("student.learning_rate=1e-3", ("student", "learning_rate"), 0.001),
        ("student.learning_rate=1E-3", ("student", "learning_rate"), 0.001),
        ("student.learning_rate=2e0", ("student", "learning_rate"), 2.0),
        ("student.learning_rate=2.5e-03", ("student", "learning_rate"), 0.0025),
        ("student.weight_decay=5e-4", ("student", "weight_decay"), 0.0005),
        ("student.learning_rate=1", ("student", "learning_rate"), 1.0),
        ("name=1e-3x", ("name",), "1e-3x"),
        ("few_labels.num_labels=40", ("few_labels",), FewLabels(num_labels=40)),
        ("few_labels=null", ("few_labels",), None),
        ("few_labels=", ("few_labels",), None),
        ("export.formats=[int8, float16, int8]", ("export", "formats"), ("int8", "float16")),
        ("data.image_size=[32, 24]", ("data", "image_size"), (32, 24)),
        ("data.value_range=[-1, 1]", ("data", "value_range"), (-1.0, 1.0)),
        ("data.train=train[:90%]", ("data", "train"), "train[:90%]"),
        ("data.train=0.6", ("data", "train"), 0.6),
        ("data.source=npz:a=b.npz", ("data", "source"), "npz:a=b.npz"),
        (
            "distillation.alpha={name: cosine, start: 0.9, end: 0.1}",
            ("distillation", "alpha"),
            {"name": "cosine", "start": 0.9, "end": 0.1},
        ),
    ],
)
def test_overrides(load, override, path, value):
    recipe = load(MINIMAL, override)
    for key in path:
        recipe = getattr(recipe, key)
    assert recipe == value
    assert type(recipe) is type(value)


def test_later_overrides_win_and_the_folder_comes_last(load, tmp_path):
    recipe = load(MINIMAL, "seed=1", "seed=2", "output_dir=there", output_dir=tmp_path / "here")
    assert recipe.seed == 2
    assert recipe.folder == tmp_path / "here"


def test_overrides_may_add_what_the_file_leaves_out(load):
    recipe = load("data: {}\nteacher: {model: a.keras}", "student.model=digits_student", "student.epochs=1")
    assert (recipe.student.model, recipe.student.epochs) == ("digits_student", 1)


def test_a_given_teacher_needs_no_epochs(load):
    assert load(MINIMAL, "teacher={model: teacher.keras}").teacher.model == "teacher.keras"


def test_a_byte_order_mark_is_ignored(load):
    assert load(b"\xef\xbb\xbf" + MINIMAL.encode()).seed == 0


UNKNOWN = [
    ("sedd=1", "sedd: unknown key.", "one of assistants, augment", "Did you mean 'seed'?"),
    ("data.sorce=digits", "data.sorce: unknown key.", "Did you mean 'source'?"),
    ("teacher.epoch=1", "teacher.epoch: unknown key.", "one of batch_size, combine", "Did you mean 'epochs'?"),
    ("student.lr=1", "student.lr: unknown key.", "learning_rate_decay"),
    (
        "distillation.temprature=1",
        "distillation.temprature: unknown key.",
        "one of adversary, alpha, losses, method, supervise, temperature",
        "Did you mean",
    ),
    ("few_labels.labels=9", "few_labels.labels: unknown key.", "num_labels", "Did you mean 'num_labels'?"),
    ("export.format=[int8]", "export.format: unknown key.", "Did you mean 'formats'?"),
    ("5=6", "5: unknown key."),
]
WRONG = [
    ("student.epochs=many", "student.epochs: invalid value.", "Received: 'many'", "a whole number"),
    ("student.epochs=", "student.epochs", "Received: None", "a whole number"),
    ("student.epochs=1.5", "student.epochs", "a whole number"),
    ("student.epochs=true", "student.epochs", "a whole number"),
    ("student.epochs='5'", "student.epochs", "Received: '5'", "a whole number"),
    ("student.epochs=0", "student.epochs", "Received: 0", "greater than or equal to 1"),
    ("student.batch_size=-1", "student.batch_size", "greater than or equal to 1"),
    ("student.learning_rate=0", "student.learning_rate", "greater than 0"),
    ("student.learning_rate=.inf", "student.learning_rate", "finite"),
    ("student.learning_rate=fast", "student.learning_rate", "Received: 'fast'", "Expected: a number"),
    ("student.learning_rate_decay=linear", "student.learning_rate_decay", "Received: 'linear'", "'none' or 'cosine'"),
    ("student.weight_decay=-1", "student.weight_decay", "greater than or equal to 0"),
    ("student.optimizer=[adam]", "student.optimizer", "Received: ['adam']", "Expected: text"),
    ("student.model=5", "student.model", "Received: 5", "Expected: text"),
    (
        "student=digits_student",
        "student: invalid value.",
        "Received: 'digits_student'",
        "a section with keys of its own",
    ),
    ("student=null", "student: invalid value.", "Received: None", "a section with keys of its own"),
    ("data=digits", "data: invalid value.", "Received: 'digits'", "a section with keys of its own"),
    ("few_labels=100", "few_labels: invalid value.", "Received: 100", "a section with keys of its own"),
    ("name=a/b", "name: invalid value.", "Received: 'a/b'", "letters, digits"),
    ("name=..", "name: invalid value.", "Received: '..'", "not beginning with"),
    ("name=''", "name: invalid value.", "letters, digits"),
    ("name=yes", "name: invalid value.", "Received: True", "Expected: text"),
    ("seed=-1", "seed: invalid value.", "greater than or equal to 0"),
    ("seed=4294967296", "seed: invalid value.", "less than or equal to 4294967295"),
    ("output_dir=[a]", "output_dir: invalid value.", "Expected: text"),
    ("data.train=true", "data.train: invalid value.", "text or a number"),
    ("data.image_size=32", "data.image_size: invalid value.", "Received: 32", "a list"),
    ("data.image_size=[32]", "data.image_size: invalid value.", "Received: [32]", "a list of two"),
    ("data.image_size=[1, 2, 3]", "data.image_size: invalid value.", "Received: [1, 2, 3]", "a list of two"),
    ("data.image_size=[32, x]", "data.image_size.1: invalid value.", "Received: 'x'", "a whole number"),
    ("data.value_range=[0, .nan]", "data.value_range.1: invalid value.", "finite"),
    ("distillation.alpha=big", "distillation.alpha: invalid value.", "'big'", "a number or a schedule such as {name:"),
    ("distillation.alpha=null", "distillation.alpha: invalid value.", "a number or a schedule"),
    ("distillation.temperature=[1]", "distillation.temperature: invalid value.", "a number or a schedule"),
    ("export.formats=int8", "export.formats: invalid value.", "Received: 'int8'", "a list"),
    ("export.formats=[]", "export.formats: invalid value.", "Received: []", "at least one"),
    ("export.formats=[int8, int2]", "export.formats.1: invalid value.", "'int2'", "'float32', 'float16', 'dynamic'"),
    ("export.formats=[[int8]]", "export.formats.0: invalid value."),
    ("export.num_threads=0", "export.num_threads: invalid value."),
    ("few_labels.num_labels=0", "few_labels.num_labels: invalid value."),
]
FORMS = [
    ("student.epochs", "Invalid --set.", "'student.epochs'", "KEY=VALUE"),
    ("", "Invalid --set.", "KEY=VALUE"),
    ("=5", "Invalid --set.", "'=5'", "KEY=VALUE"),
    ("student.epochs.most=5", "student.epochs.most", "'epochs' is not a section"),
    ("data.source.x=5", "data.source.x", "'source' is not a section"),
    ("seed.x=5", "seed: invalid value.", "Received: {'x': 5}"),
    ("student..epochs=5", "student.'': unknown key"),
    (f"distillation.alpha{'.a' * 5000}=1", "Invalid --set.", "a key of the recipe"),
    ("a\nb=1", "Invalid --set.", r"'a\nb'", "a key of the recipe"),
    ("\udcff=1", "Invalid --set.", "udcff"),
    ("seed=\udcff", "seed:", "not valid YAML"),
    (f"seed={'[' * 5000}", "seed:", "nested more than 32 levels deep"),
    (f"name={'x' * 200_000}", "name:", "longer than 100,000 characters"),
    ("float=1", "float: unknown key."),
    (" seed=1", "' seed': unknown key.", "Did you mean 'seed'?"),
    ("assistants=[{modle: x, model: y, epochs: 1}]", "assistants.0.modle: unknown key.", "Did you mean 'model'?"),
    ("data.image_size=[32, 24", "data.image_size: '[32, 24' is not valid YAML: line 1"),
    ("name=2025-13-45", "name: '2025-13-45' is not valid YAML"),
    ("name=!!python/name:os.system", "name:", "not valid YAML"),
]


@pytest.mark.parametrize(("override", "parts"), [(first, rest) for first, *rest in UNKNOWN + WRONG + FORMS])
def test_a_bad_override_is_named(load, override, parts):
    message = refusal(load, MINIMAL, override)
    for part in parts:
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["recipe.yaml is not a recipe.", "Received: None", "a mapping of keys"]),
        ("just words", ["is not a recipe.", "Received: 'just words'"]),
        ("- a\n- b", ["is not a recipe.", "Received: ['a', 'b']"]),
        (f"text: {'x' * 5000}", ["text: unknown key."]),
        (f"- {'x' * 5000}", ["is not a recipe.", "xxx..."]),
        ("data: {source: [\n", ["recipe.yaml is not valid YAML: line 2"]),
        ("seed: 1\n\tname: x", ["is not valid YAML: line 2", "\\t"]),
        ("seed: 1\nseed: 2", ["is not valid YAML: line 2, column 1: duplicate key 'seed'."]),
        (MINIMAL + "  \nstudent: {}", ["duplicate key 'student'"]),
        ("data: {source: a, source: b}", ["duplicate key 'source'"]),
        ("{[a]: 1}", ["is not valid YAML"]),
        ("a: !!python/object:os.system {}", ["is not valid YAML", "python/object"]),
        ("a: 2025-13-45", ["is not valid YAML", "month"]),
        ("a: \x01", ["is not valid YAML"]),
        (b"PK\x03\x04\xff\xfe", ["Cannot read the recipe: it is not UTF-8 text", "recipe.yaml", "keras-kd init"]),
        ("data: {}\nstudent: {model: m, epochs: 1}", ["teacher: this key is missing."]),
        ("data: {}\nteacher: {model: m}\nstudent: {model: m, epochs: 1}", ["teacher.epochs: this key is missing."]),
        (MINIMAL + "5: 6", ["5: invalid value.", "text as the key"]),
        (MINIMAL + "~: 6", ["None: invalid value.", "text as the key"]),
        (MINIMAL + "distillation: {alpha: {5: x}}", ["distillation.alpha.5: invalid value.", "text as the key"]),
        (MINIMAL + "a: &a [*a]", ["line 5, column 4: it contains itself"]),
        (MINIMAL + "<<: {seed: 1}\n<<: {seed: 2}", ["duplicate key '<<'"]),
        (MINIMAL + "seed: !!int ''", ["does not match its tag"]),
        (MINIMAL + "seed: !!timestamp x", ["does not match its tag"]),
        (MINIMAL + f"seed: !{'x' * 5000} 1", ["not valid YAML"]),
        (MINIMAL + 'name: "\\ud800"', ["line 5, column 7: the character", "ud800", "is not allowed"]),
        (MINIMAL + '"\\e[31m": 1', ["the character", "x1b"]),
        (MINIMAL + "seed: 99999999999999999999", ["line 5, column 7: a whole number of more than 64 bits"]),
        (MINIMAL + f"student: {{epochs: {'9' * 5000}}}", ["duplicate key 'student'"]),
        (MINIMAL + f"assistants: [{'1, ' * 3000}]", ["assistants.0: invalid value.", "And 2,980 more."]),
    ],
)
def test_a_bad_file_is_explained(load, text, parts):
    message = refusal(load, text)
    for part in parts:
        assert part in message


def test_all_wrong_keys_are_reported_at_once(load):
    message = refusal(load, MINIMAL, "sed=1", "student.epochs=0", "export.formats=[int2]", "distillation.alpha=x")
    lines = message.splitlines()
    assert [line.split(":")[0] for line in lines] == ["sed", "student.epochs", "distillation.alpha", "export.formats.0"]


@pytest.mark.parametrize(
    ("make", "reason"),
    [(lambda path: None, "No such file"), (Path.mkdir, "Is a directory")],
    ids=["missing", "folder"],
)
def test_a_file_that_cannot_be_read(make, reason, tmp_path):
    file = tmp_path / "mine.yaml"
    make(file)
    message = refusal(recipes.load, file)
    assert reason in message and str(file) in message and "keras-kd init" in message


def test_a_recipe_cannot_be_changed(load):
    with pytest.raises(ValueError, match="frozen"):
        load().student.epochs = 5


def bomb(levels):
    """A list of `9 ** levels` strings in a few lines."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, levels)]
    return "\n".join(lines) + "\n"


HUGE = {
    "an alias bomb": (bomb(12) + MINIMAL + "augment: *a11", "more than 10,000 values, aliases included"),
    "a bomb of merged keys": (
        "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12)),
        "more than 10,000 values, aliases included",
    ),
    "lists in lists": (MINIMAL + f"augment: {'[' * 3000}{']' * 3000}", "nested more than 32 levels deep"),
    "lists in lists, in lines": ("- " * 3000 + "x", "nested more than 32 levels deep"),
    "mappings as keys": ("? " * 3000, "nested more than 32 levels deep"),
    "many keys": ("\n".join(f"k{number}: 1" for number in range(9000)), "more than 10,000 values"),
    "a long number": (f"seed: {'9' * 5000}", "a value of more than 400 characters that is not text"),
    "a long number to the base of 16": (f"seed: 0x{'f' * 5000}", "a value of more than 400 characters"),
    "a long number to the base of 60": (f"seed: {'1:' * 5000}1", "a value of more than 400 characters"),
    "a long file": ("#" * 200_000, "it is longer than 100,000 bytes"),
}


@pytest.mark.parametrize(("text", "part"), HUGE.values(), ids=HUGE)
def test_a_file_with_any_content_is_refused_quickly(load, text, part):
    """Without these bounds each took minutes, gigabytes, or the interpreter's stack."""
    begin = time.process_time()
    message = refusal(load, text)
    assert part in message and len(message) < 400
    assert time.process_time() - begin < 20.0  # seconds of the processor, a hundred times what the bounds allow


def test_an_alias_is_a_copy(load):
    """An override of one section does not change the other."""
    text = "data: {}\nteacher: &same {model: digits_teacher, epochs: 3}\nstudent: *same"
    recipe = load(text, "student.epochs=9")
    assert (recipe.teacher.epochs, recipe.student.epochs) == (3, 9)


def test_merged_keys_may_be_overridden(load):
    text = "data: {}\nteacher: &same {model: digits_teacher, epochs: 3}\nstudent: {<<: *same, epochs: 2}"
    assert load(text).student == Student(model="digits_teacher", epochs=2)


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "no\0path", "x" * 5000])
def test_what_is_not_a_file_is_refused_at_once(name):
    message = refusal(recipes.load, name)
    assert message.startswith("Cannot read the recipe: ")


def test_a_pipe_without_a_writer_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    assert "it is not a regular file" in refusal(recipes.load, tmp_path / "pipe.yaml")


@pytest.mark.parametrize("name", ["x" * 5000, "x" * 300])
def test_a_name_that_no_file_can_have_is_still_a_name(load, name):
    assert load(MINIMAL.replace("digits_student", name)).student.model == name
