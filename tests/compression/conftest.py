import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent))
from compressible import MODELS  # noqa: E402


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]()


@pytest.fixture
def data():
    """Makes examples for a model: `data(model, n)` returns `(x, y)`."""

    def make(model, n=32):
        rng = np.random.default_rng(0)
        shape = (n, *model.input_shape[1:])
        x = rng.integers(0, 20, shape).astype("int32") if len(shape) == 2 and shape[1] == 6 else None
        return (rng.random(shape, "float32") if x is None else x), rng.integers(0, 5, n)

    return make
