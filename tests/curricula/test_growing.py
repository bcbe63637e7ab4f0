"""Growing resolution, as documented: the second fit continues the optimizer, the schedules and the order."""

import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parent))
import growing  # noqa: E402


def test_two_fits_are_one_training():
    _, steps, weights = growing.trained()
    assert steps == 12
    for one, other in zip(weights, growing.step_by_step(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
