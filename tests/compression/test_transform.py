"""What `apply` refuses, whatever the technique."""

import numpy as np
import pytest
from compressible import nested

import keras_kd as kd
from keras_kd.compression import Clustering, Pruning, QuantizationAware, chain


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "transform", [Pruning(0.5), Clustering(4), QuantizationAware(), chain(Pruning(0.5), QuantizationAware())]
)
def test_weights_that_are_not_numbers(transform, value):
    model = nested()
    kernel = model.get_layer("head").kernel
    kernel.assign(np.full(kernel.shape, value))
    with pytest.raises(kd.errors.ConfigurationError, match="'head' cannot be compressed.*that are NaN or infinite"):
        transform.apply(model)
