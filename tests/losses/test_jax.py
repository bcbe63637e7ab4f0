"""The same losses on JAX: another backend needs no other losses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CONTRACT = Path(__file__).with_name("test_contract.py")
VALUES = """
import importlib.util, json, sys
specification = importlib.util.spec_from_file_location("contract", sys.argv[1])
sys.modules["contract"] = contract = importlib.util.module_from_spec(specification)
specification.loader.exec_module(contract)
values = {}
for name, row in contract.ROWS.items():
    loss = row.make()
    value = contract.value(loss, row, contract.draw(row.teacher), contract.draw(row.student, seed=1))
    values[name] = [value, len(loss.weights)]
print(json.dumps(values))
"""


def values(backend):
    environment = {**os.environ, "KERAS_BACKEND": backend}
    command = [sys.executable, "-W", "ignore", "-c", VALUES, str(CONTRACT)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.long
def test_values_are_those_of_tensorflow():
    jax, tensorflow = values("jax"), values("tensorflow")
    assert jax.keys() == tensorflow.keys()
    for name, (value, num_weights) in jax.items():
        if num_weights == 0:  # what is learned starts at random
            assert value == pytest.approx(tensorflow[name][0], rel=1e-4, abs=1e-6), name
        assert abs(value) < 1e6, name
