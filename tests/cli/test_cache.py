"""`keras-kd cache` and `keras-kd diagnose`, each in its own process."""

import json
import sys
from pathlib import Path

import pytest
import yaml

COMMAND = Path(sys.executable).with_name("keras-kd")
RECIPE = {
    "name": "small",
    "data": {"source": "digits"},
    "augment": ["flip"],
    "teacher": {"model": "digits_student", "epochs": 1},
    "student": {"model": "digits_student", "epochs": 1},
}


@pytest.fixture(scope="module")
def call(start_once):
    """Runs a command in a folder and waits for it to finish."""
    return lambda folder, *arguments: start_once(COMMAND, *arguments, cwd=folder).wait()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, call):
    """A folder in which a teacher was trained and diagnosed."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    result = call(folder, "diagnose", "recipe.yaml")
    assert (result.returncode, result.stderr) == (0, "")
    assert "accuracy" in result.stdout and "teacher_reliability.svg" in result.stdout
    return folder


def test_build_info_and_verify(folder, call):
    result = call(folder, "cache", "build", "recipe.yaml", "--set", "cache={views: 2, top_k: 3}")
    assert (result.returncode, result.stderr) == (0, "")
    printed = " ".join(result.stdout.split())
    assert "trained before with these settings" in printed and "complete." in printed
    (path,) = (folder / "saved_models" / "small" / "teacher_cache").iterdir()
    described = json.loads(call(folder, "cache", "info", str(path), "--json").stdout)
    assert (described["views"], described["shards"], described["shards_expected"]) == (2, 4, 4)
    assert "bytes_per_example_and_view" in call(folder, "cache", "info", str(path)).stdout
    verified = call(folder, "cache", "verify", str(path))
    assert verified.returncode == 0 and "all 4 shards are intact" in " ".join(verified.stdout.split())
    victim = sorted((path / "shards").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:-1])
    damaged = call(folder, "cache", "verify", str(path))
    assert damaged.returncode == 1 and victim.name in damaged.stderr and "Traceback" not in damaged.stderr


def test_errors_are_reported(folder, call):
    nothing = call(folder, "cache", "build", "recipe.yaml")
    assert nothing.returncode == 2 and "cache: there is none to build" in nothing.stderr
    missing = call(folder, "cache", "info", "nowhere")
    assert missing.returncode == 1 and "No teacher cache found" in missing.stderr
