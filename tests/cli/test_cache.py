"""`keras-kd diagnose` in its own process, and `keras-kd cache` on what it wrote."""

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
def trained(tmp_path_factory, start_once):
    """A folder in which a teacher was trained and diagnosed, in its own process."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    result = start_once(COMMAND, "diagnose", "recipe.yaml", cwd=folder).wait()
    assert (result.returncode, result.stderr) == (0, "")
    assert "accuracy" in result.stdout and "teacher_reliability.svg" in result.stdout
    return folder


@pytest.fixture
def call(invoke, trained, monkeypatch):
    """Runs a command in that folder, in this process."""
    monkeypatch.chdir(trained)
    return invoke


def test_build_info_and_verify(trained, call):
    result = call("cache", "build", "recipe.yaml", "--set", "cache={views: 2, top_k: 3}")
    assert (result.exit_code, result.stderr) == (0, "")
    printed = " ".join(result.stdout.split())
    assert "trained before with these settings" in printed and "complete." in printed
    (path,) = (trained / "saved_models" / "small" / "teacher_cache").iterdir()
    described = json.loads(call("cache", "info", str(path), "--json").stdout)
    assert (described["views"], described["shards"], described["shards_expected"]) == (2, 4, 4)
    assert "bytes_per_example_and_view" in call("cache", "info", str(path)).stdout
    verified = call("cache", "verify", str(path))
    assert verified.exit_code == 0 and "all 4 shards are intact" in " ".join(verified.stdout.split())
    victim = sorted((path / "shards").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:-1])
    damaged = call("cache", "verify", str(path))
    assert damaged.exit_code == 1 and victim.name in damaged.stderr and "Traceback" not in damaged.stderr


def test_errors_are_reported(call):
    nothing = call("cache", "build", "recipe.yaml")
    assert nothing.exit_code == 2 and "cache: the recipe has no such section" in nothing.stderr
    missing = call("cache", "info", "nowhere")
    assert missing.exit_code == 1 and "No teacher cache found" in missing.stderr
