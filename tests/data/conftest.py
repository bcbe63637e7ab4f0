"""The digits in the form that the other sources read: arrays, and files written by the tests."""

import numpy as np
import pytest
from sklearn.datasets import load_digits


@pytest.fixture(scope="session")
def digit_images():
    """uint8 images `[1797, 8, 8, 1]` in 0..240, and labels."""
    digits = load_digits()
    return (digits.images * 15).astype(np.uint8)[..., None], digits.target.astype(np.int64)


@pytest.fixture
def write_npz(tmp_path):
    def write(**arrays):
        np.savez(tmp_path / "data.npz", **arrays)
        return f"npz:{tmp_path / 'data.npz'}"

    return write
