"""Which layer the converter cannot take, and the way out, from its log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import keras

from keras_kd.errors import explain
from keras_kd.keras_private import all_layers

_NUM_SHOWN = 6
_REFUSED = "op is neither a custom op nor a flex op"
_PLACE = re.compile(r"fused\[\"(?P<operation>\w+):\", \"(?P<place>[^\"@]*)[\"@]")
_LISTED = re.compile(r"^(?:TF Select|Custom) ops: (?P<operations>.+)$", re.MULTILINE)
_NOT_IN_16_BITS = re.compile(r"Quantization to 16x8-bit not yet supported for op: '(?P<operation>\w+)'")
_DOUBLE = re.compile(r"^\ttf\.\w+\([^\n]*xf64>", re.MULTILINE)
_INTEGERS = re.compile(r"op operand #\d+ must be [^\n]*but got 'tensor<[^']*xu?i[48]>'")


class _Family(NamedTuple):
    """Operations that LiteRT lacks for one reason: a pattern of their whole names, and what to do."""

    pattern: str
    advice: str


# Each was converted with TensorFlow 2.21 and refused, or is of the same group of `tf.raw_ops` as one that was.
_FAMILIES = (
    _Family(
        "Bitwise(And|Or|Xor)|Invert",
        "`keras.ops.argmax` and `argmin` compute bits of floating-point numbers: take "
        "`kd.export.with_processing(model, postprocess='argmax')` at the end of a model, or `tf.argmax` in a layer.",
    ),
    _Family(
        "I?FFT(2D|3D|ND)?|IRFFT(2D|3D)?|Complex|Conj|Angle|ComplexAbs",
        "Of transforms with complex numbers, LiteRT has the one of real numbers: `tf.signal.rfft`, "
        "`keras.layers.STFTSpectrogram` and `MelSpectrogram`. Compute others outside of the model.",
    ),
    _Family(
        "(Dense|Ragged|Sparse)?Bincount|Unbatch|SparseTensor.*|Sparse.*|Ragged.*",
        "LiteRT has dense tensors only. For multi-hot or counted categories (`CategoryEncoding`, `ops.bincount`), take "
        "the maximum or the sum of `keras.ops.one_hot` over the axis of the categories.",
    ),
    _Family(
        "Stateless(Random|Truncated|Multinomial).*|Random(Standard|Uniform|Gamma|Poisson|Shuffle).*|"
        "(Truncated|Parameterized.*)Normal|RngReadAndSkip|Stateful(Standard|Uniform|Random).*",
        "It draws random numbers in inference: let it do so only if `training`, or export the model without it.",
    ),
    _Family("Resize(Bicubic|Area)|ScaleAndTranslate", "Resize with interpolation='bilinear' or 'nearest'."),
    _Family(
        "(Matrix|Batch|Self|Svd|Qr|Cholesky|Lu|Log(Matrix)?Determinant|Eig).*|Tridiagonal.*|Banded.*",
        "LiteRT has no linear algebra beyond products. Compute it outside of the model; that of constants, before.",
    ),
    _Family(
        "Erfinv|Ndtri|Digamma|Polygamma|Zeta|Igammac?|Betainc|Bessel.*|Nextafter",
        "LiteRT has no such special functions. Compute them outside of the model, or take a polynomial.",
    ),
    _Family(
        "PrintV?2?|Assert|(Eager)?PyFunc(Stateless)?|EnsureShape|CheckNumerics.*|DebugIdentity.*",
        "Python code, prints and checks cannot be in a file: write the layer with `keras.ops` alone.",
    ),
    _Family(
        ".*String.*|.*LookupTable.*|.*HashTable.*|.*RegexReplace|Unicode.*|.*Substr.*|Decode.*|Encode.*|Parse.*|"
        "ReadFile|Text.*",
        "Keep text, vocabularies and files outside of the model: export the part that takes integers or numbers.",
    ),
    _Family(
        ".*NonMaxSuppression.*",
        "Export boxes and scores, and select among them in the app, or take `tf.image.non_max_suppression_padded`.",
    ),
    _Family(
        "TensorList.*|TensorArray.*|Stack.*|Queue.*",
        "Loops that collect tensors need a known number of steps: unroll=True, and `Input` with a known length.",
    ),
)
_ANY = "Write the layer with operations that LiteRT has, or compute them outside of the model."
_IN_16_BITS = {
    "CAST": "Take a float32 input instead of an integer one, as `kd.export.Pixels` does.",
    "ARG_MAX": "Export the scores, and take the largest in the app.",
}


def refusal(log: str, model: keras.Model) -> str | None:
    """What to tell the user about a model that the TFLite converter rejected; None if its log names no operation.

    Args:
        log: the message of the converter's exception, or a traceback that ends with it.
        model: the model that was converted.
    """
    layers = {layer.name: layer for layer in all_layers(model)}
    if operations := sorted(set(_NOT_IN_16_BITS.findall(log))):
        return _not_in_16_bits(operations)
    if found := _refused(log):
        return _without_operators(log, found, layers)
    if _INTEGERS.search(log) and (quantized := [one for one in layers.values() if _is_quantized(one)]):
        return explain(
            "The TFLite converter does not take layers that Keras quantized.",
            received=_listing(map(_named, quantized)),
            expected="layers with floating-point weights",
            fix="Export the model as it was before `quantize`, with format='int8' or 'dynamic'.",
        )
    return None


def crash_hint(model: keras.Model) -> str | None:
    """Advice on layers that crash the converter in integer formats: recurrent ones that are loops; None without any."""
    rolled = [one for one in all_layers(model) if isinstance(one, keras.layers.RNN) and not one.unroll]
    if not rolled:
        return None
    names = _listing(map(_named, rolled))
    return (
        f"Rolled recurrent layers are a known cause: rebuild the model with unroll=True in {names}, and "
        "with a known number of steps in its `Input`. Formats with floating-point activations take loops."
    )


def _refused(log: str) -> dict[str, set[str]]:
    """The places of each operation that LiteRT lacks; an empty set if the log does not tell them."""
    found: dict[str, set[str]] = {}
    for line in log.splitlines():
        if _REFUSED in line and (match := _PLACE.search(line)):
            found.setdefault(match["operation"], set()).add(match["place"])
    for match in _LISTED.finditer(log):
        for operation in match["operations"].split(", "):
            found.setdefault(operation.strip(), set())
    return found


def _without_operators(log: str, found: Mapping[str, set[str]], layers: Mapping[str, Any]) -> str:
    where = [f"{name}{_where(places, layers)}" for name, places in found.items()]
    if _DOUBLE.search(log):
        expected, advice = "float32", ["LiteRT does not compute in float64: rebuild the model with dtype='float32'."]
    else:
        expected, advice = "operations that LiteRT has", list(dict.fromkeys(map(_advice, found)))
    problem = "The TFLite converter rejected the model: LiteRT lacks some of its operations."
    return explain(problem, received=_listing(where), expected=expected, fix=" ".join(advice))


def _advice(operation: str) -> str:
    matching = (family.advice for family in _FAMILIES if re.fullmatch(family.pattern, operation))
    return next(matching, _ANY)


def _where(places: Iterable[str], layers: Mapping[str, Any]) -> str:
    """
    >>> _where({"functional_1/memory_1/Erfinv"}, {"memory": keras.layers.Flatten(name="memory")})
    " in Flatten 'memory'"
    """
    named = sorted({_named_place(place, layers) for place in places} - {""})
    return f" in {_listing(named)}" if named else ""


def _named_place(place: str, layers: Mapping[str, Any]) -> str:
    """The innermost layer of a path of TensorFlow's name scopes, which numbers repeated names; empty without one."""
    for part in reversed(place.split("/")[:-1]):
        for name in (part, re.sub(r"_\d+$", "", part)):
            if name in layers:
                return _named(layers[name])
    return ""


def _not_in_16_bits(operations: list[str]) -> str:
    advice = [_IN_16_BITS[operation] for operation in operations if operation in _IN_16_BITS]
    return explain(
        "The TFLite converter rejected the model: some operators have no kernel for int16 activations.",
        received=_listing(operations),
        expected="operators that the format 'int16x8' has",
        fix=" ".join([*advice, "The formats 'int8' and 'float16' have more."]),
    )


def _is_quantized(layer: keras.layers.Layer) -> bool:
    return getattr(layer, "quantization_mode", None) is not None


def _named(layer: keras.layers.Layer) -> str:
    return f"{type(layer).__name__} {layer.name!r}"


def _listing(names: Iterable[str]) -> str:
    """
    >>> _listing("abcdefgh")
    'a, b, c, d, e, f and 2 more'
    """
    names = list(names)
    more = f" and {len(names) - _NUM_SHOWN} more" if len(names) > _NUM_SHOWN else ""
    return ", ".join(names[:_NUM_SHOWN]) + more
