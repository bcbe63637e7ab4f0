"""keras_kd: model compression for Keras 3.

    import keras_kd as kd
    distiller = kd.Distiller(teacher, student, alpha=0.9, temperature=4.0)

Everything public is in `__all__`. Each part loads on first use; if Keras is already loaded, the classes that a saved
model may refer to load immediately, so that `keras.models.load_model` finds them.
"""

import importlib
import os
import sys
from typing import Any

_NAMES = {
    "AdversarialTraining": "keras_kd.distillers",
    "DataFreeDistiller": "keras_kd.regimes",
    "Distiller": "keras_kd.distillers",
    "MutualDistiller": "keras_kd.regimes",
    "Pipeline": "keras_kd.data",
    "SelfDistiller": "keras_kd.regimes",
    "born_again": "keras_kd.chain",
    "distill_chain": "keras_kd.chain",
    "export_tflite": "keras_kd.export",
    "lottery_ticket": "keras_kd.chain",
    "match_layers": "keras_kd.features",
    "taps": "keras_kd.features",
}
_SAVED_BY_NAME = (
    "adversaries",
    "compression",
    "distillers",
    "features",
    "losses",
    "regimes",
    "schedules",
    "synthesis",
    "tasks.losses",
    "tasks.metrics",
    "teachers",
)

__version__ = "0.1.0"

__all__ = [
    "AdversarialTraining",
    "DataFreeDistiller",
    "Distiller",
    "MutualDistiller",
    "Pipeline",
    "SelfDistiller",
    "adversaries",
    "born_again",
    "callbacks",
    "chain",
    "compression",
    "curricula",
    "data",
    "diagnosis",
    "distill_chain",
    "errors",
    "evaluation",
    "export",
    "export_tflite",
    "losses",
    "lottery_ticket",
    "match_layers",
    "models",
    "recipes",
    "regimes",
    "schedules",
    "surgery",
    "synthesis",
    "taps",
    "tasks",
    "teachers",
    "transfer",
]


def _load_saved_by_name() -> None:
    for module in _SAVED_BY_NAME:
        importlib.import_module(f"keras_kd.{module}")


def check_keras() -> None:
    """Raises `ConfigurationError` if Keras is installed and its backend is unknown or not installed."""
    from keras_kd.errors import ConfigurationError, explain

    try:
        importlib.import_module("keras")
    except (ImportError, ValueError) as error:
        if getattr(error, "name", None) == "keras":
            raise
        backend = os.environ.get("KERAS_BACKEND", "(not set; the backend in ~/.keras/keras.json is used)")
        install = "pip install 'keras_kd[jax]', or set" if getattr(error, "name", None) in ("jax", "jaxlib") else "Set"
        raise ConfigurationError(
            explain(
                f"Keras cannot load its backend: {error}.",
                received=f"KERAS_BACKEND={backend}",
                expected="an installed backend: 'tensorflow' or 'jax' (for the losses alone, any)",
                fix=f"{install} KERAS_BACKEND=tensorflow before the first import of keras.",
            )
        ) from error


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        check_keras()
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in __all__:
        if name != "errors":
            check_keras()
            _load_saved_by_name()
        return importlib.import_module(f"keras_kd.{name}")
    raise AttributeError(f"module 'keras_kd' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


if "keras" in sys.modules:
    _load_saved_by_name()
