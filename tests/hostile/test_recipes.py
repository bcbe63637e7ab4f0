"""Recipes that must be rejected."""

import pytest

from keras_kd import recipes
from keras_kd.errors import RecipeError
from keras_kd.recipes.checks.recipe import check_recipe

# Invalid values by key; each value is a row.
VALUES = {
    "name": ["''", "..", "-x", "a/b", "'a b'", "5", "null", "[a]", "'a\\nb'"],
    "seed": ["-1", "1.5", "4294967296", "x", "null", "true", "1e3", "[0]"],
    "output_dir": ["5", "[x]", "{a: b}", "true"],
    "data.source": ["null", "5", "[digits]", "'digits '", "Digits", "'npz:'", "'folder:'", "'tfds:'", "'http://x'"],
    "data.train": ["[0.5]", "{a: 1}", "true", ".nan", ".inf"],
    "data.validation": ["0.1", "[0.5]", "-0.1"],
    "data.test": ["2.0", "[0.5]", "true"],
    "data.image_size": [
        "8",
        "[8]",
        "[8, 8, 8]",
        "[0, 8]",
        "[-1, 8]",
        "['8', 8]",
        "[8.5, 8]",
        "{a: 8}",
        "[8, 99999999999]",
    ],
    "data.value_range": ["[0]", "[1, 0]", "[0, 0]", "[0, .inf]", "[.nan, 1]", "['a', 'b']", "5", "[0, 1, 2]"],
    "augment": [
        "5",
        "flip",
        "[5]",
        "[null]",
        "[no_such]",
        "[{pixels: 4}]",
        "[{name: flip, pixels: 4}]",
        "{name: flip}",
        "[{name: pad_and_crop, pixels: -1}]",
        "[{name: pad_and_crop, pixels: x}]",
        "[[flip]]",
    ],
    "teacher": ["null", "5", "[]", "digits_teacher", "{}"],
    "teacher.model": [
        "null",
        "5",
        "''",
        "digits",
        "[digits_teacher]",
        "none.keras",
        "none.h5",
        "none.tflite",
        "none.npz",
        "'os:getcwd'",
        "'os:'",
        "'keras_kd.models:nothing'",
    ],
    "teacher.epochs": ["0", "-1", "1.5", "x", ".inf", "true", "[1]"],
    "teacher.dtype": ["float16", "5", "true", "[float32]"],
    "teacher.ensemble_with": ["none.keras", "[5]", "[none.keras]", "{a: b}"],
    "teacher.weights": ["equal", "[x]", "[-1.0]", "{a: 1}", "[0.5, 0.5, 0.5]"],
    "teacher.combine": ["mean", "5", "null"],
    "assistants": [
        "5",
        "[5]",
        "[digits_student]",
        "[{model: digits_student}]",
        "[{epochs: 3}]",
        "{model: digits_student}",
    ],
    "guidance": ["some", "5", "null", "[all]"],
    "drop": ["-0.1", "1.0", ".nan", "x", "0.5", "true"],
    "student": ["null", "5", "{}", "{model: digits_student}"],
    "student.model": ["null", "''", "digits_studnet", "'digits_student '", "none.keras", "none.h5", "[a]"],
    "student.epochs": ["0", "null", "-5", "2.5", "'3'", "true"],
    "student.batch_size": ["0", "-64", "1.5", "x", "null", "1000000000000000000000000000000"],
    "student.optimizer": ["null", "''", "adamm", "5", "[adam]", "{name: adam}"],
    "student.learning_rate": ["0", "-0.1", ".nan", ".inf", "x", "null", "'0.1'", "true", "[0.1]"],
    "student.learning_rate_decay": ["linear", "null", "5", "true"],
    "student.weight_decay": ["-0.1", ".nan", ".inf", "x", "true"],
    "cache": [
        "5",
        "[8]",
        "{views: 0}",
        "{views: -1}",
        "{views: 1.5}",
        "{top_k: 0}",
        "{top_k: -3}",
        "{top_k: 99}",
        "{remainder: none}",
        "{view: 8}",
        "{folder: 5}",
        "true",
    ],
    "distillation": ["5", "null", "[0.5]", "{alfa: 0.5}"],
    "distillation.alpha": [
        "-0.01",
        "1.01",
        ".nan",
        ".inf",
        "x",
        "null",
        "true",
        "[0.5]",
        "{}",
        "{name: 5}",
        "{name: cosine}",
        "{name: cosine, start: .nan, end: 0}",
        "{name: linear, start: 0, end: 1, steps: -1}",
        "{name: piecewise, boundaries: [], values: []}",
        "{name: join, schedules: [], boundaries: []}",
    ],
    "distillation.temperature": [
        "0",
        "-4",
        ".nan",
        ".inf",
        "x",
        "null",
        "true",
        "[4]",
        "{name: polynomial, start: 4, end: 1, power: -1}",
    ],
    "distillation.losses": [
        "[]",
        "5",
        "[5]",
        "[null]",
        "[[]]",
        "[{}]",
        "[{weight: 1}]",
        "[no_such_loss]",
        "{name: hint}",
        "[{name: soft_targets, weight: x}]",
        "[{name: soft_targets, weight: -1}]",
        "[{name: soft_targets, weight: .nan}]",
        "[{name: soft_targets, temperature: 0}]",
        "[{name: soft_targets, divergence: js}]",
        "[{name: soft_targets, activation: tanh}]",
        "[{name: hint, teacher: nowhere, student: logits}]",
        "[{name: soft_targets, examples: luck}]",
        "[{name: decoupled_kd, beta: x}]",
    ],
    "few_labels": [
        "5",
        "[100]",
        "{num_labels: 0}",
        "{num_labels: 9}",
        "{num_labels: 1079}",
        "{num_labels: 1.5}",
        "{labels: 100}",
        "{alpha: 2}",
        "{temperature: 0}",
        "{losses: 5}",
    ],
    "export": [
        "5",
        "null",
        "{formats: []}",
        "{formats: [int2]}",
        "{formats: int8}",
        "{formats: [5]}",
        "{calibration_samples: 0}",
        "{calibration_samples: x}",
        "{num_threads: 0}",
        "{num_threads: 1000000}",
        "{num_threads: 1.5}",
        "{format: [int8]}",
    ],
    "no_such_key": ["5", "null"],
    "data.no_such_key": ["5"],
    "student.learningrate": ["0.1"],
}
ROWS = [(key, value) for key, values in VALUES.items() for value in values]


@pytest.mark.parametrize(("key", "value"), ROWS, ids=[f"{key}={value}" for key, value in ROWS])
def test_an_invalid_value_is_rejected_with_its_key(key, value, refused):
    section = key.split(".")[0]
    refused(lambda: check_recipe(recipes.load(None, [f"{key}={value}"])), RecipeError, [section])


# Files that are not recipes: the text, and the expected words of the message.
TEXTS = {
    "empty": ("", "recipe"),
    "a number": ("5", "mapping"),
    "a list": ("- a\n- b\n", "mapping"),
    "a tab": ("data:\n\tsource: digits\n", "line 2"),
    "a key twice": ("name: a\nname: b\n", "duplicate key"),
    "a list as a key": ("? [a, b]\n: 5\n", ""),
    "a mapping as a key": ("{a: b}: 5\n", ""),
    "an unclosed list": ("augment: [flip\n", "line"),
    "a Python object": ("name: !!python/object/apply:os.getcwd []\n", "python"),
    "a date that is none": ("name: 2025-13-01\n", ""),
    "two documents": ("name: a\n---\nname: b\n", ""),
    "an alias without an anchor": ("name: *nothing\n", "nothing"),
    "itself inside itself": ("data: &a\n  source: *a\n", ""),
    "three thousand levels": ("a: " + "[" * 3000 + "]" * 3000, ""),
    "three thousand mappings": ("".join(" " * i + "a:\n" for i in range(3000)), ""),
    "an alias bomb": (
        "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 10) + "]\n" for i in range(1, 9))
        + "augment: *a8\n",
        "",
    ),
    "an alias bomb under a known key": (
        "augment: [&a [x, x, x, x, x, x, x, x], &b [*a, *a, *a, *a, *a, *a, *a, *a], &c [*b, *b, *b, *b, *b, *b, *b],"
        " &d [*c, *c, *c, *c, *c, *c, *c], &e [*d, *d, *d, *d, *d, *d, *d], &f [*e, *e, *e, *e, *e, *e, *e], *f]\n",
        "",
    ),
    "a number of ten thousand digits": ("seed: " + "9" * 10_000 + "\n", ""),
    "a name of a million letters": ("name: " + "a" * 1_000_000 + "/\n", ""),
    "zero bytes": ("name: a\0b\n", ""),
    "other control characters": ("name: 'a\x07b'\n", ""),
    "half a surrogate": ('name: "\\ud800"\n', ""),
    "a merge key": ("<<: 5\n", ""),
    "infinity as the seed": ("seed: .inf\n", "seed"),
}


@pytest.mark.parametrize("text", [text for text, _ in TEXTS.values()], ids=list(TEXTS))
def test_text_that_is_not_a_recipe_is_rejected(text, refused, tmp_path_factory, request):
    file = tmp_path_factory.mktemp("texts") / "recipe.yaml"
    file.write_text(text, "utf-8")
    words = next(word for known, word in TEXTS.values() if known == text)
    refused(lambda: check_recipe(recipes.load(file)), RecipeError, [words])


BYTES = {
    "not UTF-8": b"name: \xff\xfe",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "a zip": b"PK\x03\x04" + bytes(64),
    "UTF-16": "name: a".encode("utf-16"),
}


@pytest.mark.parametrize("content", list(BYTES.values()), ids=list(BYTES))
def test_bytes_that_are_not_text_are_rejected(content, refused, tmp_path_factory):
    file = tmp_path_factory.mktemp("bytes") / "recipe.yaml"
    file.write_bytes(content)
    refused(lambda: recipes.load(file), RecipeError, ["recipe"])


OVERRIDES = [
    "",
    "=",
    "student",
    "student=",
    "=5",
    "student.epochs",
    "student..epochs=5",
    ".=5",
    "student.epochs.x=5",
    "name.x=5",
    "student.epochs=[",
    "student.epochs=&a",
    "student.epochs=*a",
    "a=b=c",
    "student.epochs=5 6",
    "data.source.x=5",
    "augment.0=flip",
    "\n=5",
    "student.epochs=!!python/name:os.system",
]


@pytest.mark.parametrize("override", OVERRIDES)
def test_an_invalid_override_is_rejected(override, refused):
    refused(lambda: recipes.load(None, [override]), RecipeError, [])
