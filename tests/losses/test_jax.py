"""The losses compute the same values on JAX."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

VALUES = """
import json, sys
sys.path.insert(0, sys.argv[1])
import loss_table as table
values = {}
for name, row in table.ROWS.items():
    loss = row.make()
    value = table.value(loss, row, table.draw(row.teacher), table.draw(row.student, seed=1))
    values[name] = [value, len(loss.weights)]
print(json.dumps(values))
"""


def values(backend):
    environment = {**os.environ, "KERAS_BACKEND": backend}
    command = [sys.executable, "-W", "ignore", "-c", VALUES, str(Path(__file__).parent)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.long
def test_values_are_those_of_tensorflow():
    jax, tensorflow = values("jax"), values("tensorflow")
    assert jax.keys() == tensorflow.keys()
    for name, (value, num_weights) in jax.items():
        if num_weights == 0:  # learned weights are initialized randomly
            assert value == pytest.approx(tensorflow[name][0], rel=1e-4, abs=1e-6), name
        assert abs(value) < 1e6, name
