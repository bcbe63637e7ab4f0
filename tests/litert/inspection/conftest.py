"""Files that are written table by table with LiteRT's own writer."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
from handmade import model, serialized, tensor  # noqa: E402


@pytest.fixture(scope="session")
def int4_file():
    """A fully connected layer of 3 units with int4 weights, quantized per channel, and a float bias."""
    tensors = [
        tensor("image", [None, 8]),
        tensor("weights", [3, 8], dtype="INT4", data=bytes(range(12)), scales=[0.5, 0.25, 0.125]),
        tensor("bias", [3], data=bytes(12)),
        tensor("scores", [None, 3]),
    ]
    operators = [("FULLY_CONNECTED", [0, 1, 2], [3])]
    return serialized(model(tensors, operators, inputs=[0], outputs=[3]))
