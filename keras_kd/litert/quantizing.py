"""Quantizes a float32 LiteRT file with ai-edge-quantizer: the formats that TensorFlow's converter does not write."""

from __future__ import annotations

import contextlib
import fnmatch
import io
import logging
import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from keras_kd.errors import ConfigurationError, ExportError, explain
from keras_kd.litert.file import File, Graph, StoredOperator
from keras_kd.litert.formats import Dynamic, Format, Int4, Int8, Mixed, get_format
from keras_kd.litert.graph import named_ends
from keras_kd.litert.reading import read_file

ANY = ".*"
_ALL_OPERATORS = "*"
_OPERATOR = re.compile(r"[A-Z][A-Z0-9_]*")


def quantize(content: bytes, form: Format, ranges: Mapping[str, tuple[float, float]]) -> bytes:
    """The content of a quantized LiteRT file, whose tensors keep their names.

    Args:
        content: a LiteRT file in float32.
        form: the format.
        ranges: the smallest and the largest value of each computed tensor by name, if the format needs calibration.

    Raises:
        ConfigurationError: the file is damaged, or a rule of a mixed format names nothing in it.
        ExportError: the quantizer rejected the file.
    """
    from ai_edge_quantizer import quantizer  # loads on first use

    file = read_file(content)
    with _quiet():
        engine = quantizer.Quantizer(content)
        for number, (regex, operator, one) in enumerate(_rules(file, form)):
            _add(engine, f"{regex}(?#{number})", operator, one)  # equal expressions would share the first one's place
        measured = _statistics(file, ranges) if form.needs_calibration else None
        try:
            return bytes(
                engine.quantize(measured, enable_progress_bar=False, enable_progress_report=False).quantized_model
            )
        except Exception as error:  # it raises errors of all kinds
            problem = f"ai-edge-quantizer rejected the model: {str(error).strip()[:500]}"
            raise ExportError(explain(problem, fix="Try another `format`.")) from error


def operator_scope(graph: Graph, operator: StoredOperator) -> str:
    """The name of an operator, as ai-edge-quantizer has it: the names of its outputs."""
    return "".join(f"{graph.tensors[index].name};" for index in operator.outputs if index >= 0)


def _rules(file: File, form: Format) -> Iterator[tuple[str, str, Format | None]]:
    """A regular expression for scopes, an operator or "*", and a format, or None for float32; later ones override."""
    if isinstance(form, Int4):
        yield ANY, _ALL_OPERATORS, Dynamic()
        yield from _four_bits(file, form)
        return
    if not isinstance(form, Mixed):
        yield ANY, _ALL_OPERATORS, form
        if isinstance(form, Int8) and form.io == "float32":
            yield from ((ANY, name, None) for name in ("INPUT", "OUTPUT"))
        return
    yield ANY, _ALL_OPERATORS, _or_float(form.default)
    for key, name in form.rules:
        one = _or_float(name)
        if _OPERATOR.fullmatch(key):
            _check_operator(file, key)
            _check_supported(key, {key}, one)
            yield ANY, key, one
        else:
            scopes = _matching(file, key)
            _check_supported(key, _operators_in(file, scopes), one)
            yield from ((f"^{re.escape(scope)}", _ALL_OPERATORS, one) for scope in scopes)


def _four_bits(file: File, form: Int4) -> Iterator[tuple[str, str, Format]]:
    """Rules for weights of 4 bits: in all layers that the quantizer supports, or in those that blocks fit."""
    if form.block_size is None:
        yield ANY, _ALL_OPERATORS, form
        return
    dense = [(graph, one) for graph in file.graphs for one in graph.operators if one.name == "FULLY_CONNECTED"]
    sizes = [graph.tensors[one.inputs[1]].shape[-1] for graph, one in dense]
    fitting = [pair for pair, size in zip(dense, sizes, strict=True) if size % form.block_size == 0]
    if not fitting:
        raise ConfigurationError(
            explain(
                f"No dense layer of the model can have blocks of {form.block_size} weights.",
                received=f"dense layers with {', '.join(map(str, sorted(set(sizes)))) or 'no'} inputs",
                expected="a number of inputs that the block size divides",
                fix="Use the format 'int4', which has a scale for each output channel.",
            )
        )
    for graph, one in fitting:
        yield f"^{re.escape(operator_scope(graph, one))}", "FULLY_CONNECTED", form


def _or_float(name: str) -> Format | None:
    return None if name == "float32" else get_format(name)


def _check_operator(file: File, name: str) -> None:
    known = sorted({one.name for graph in file.graphs for one in graph.operators})
    if name not in known:
        problem = f"The rule {name!r} names no operator of the file."
        raise ConfigurationError(explain(problem, received=repr(name), expected=f"one of {', '.join(known)}"))


def _operators_in(file: File, scopes: Collection[str]) -> set[str]:
    pairs = ((graph, one) for graph in file.graphs for one in graph.operators)
    return {one.name for graph, one in pairs if operator_scope(graph, one) in scopes}


def _check_supported(key: str, operators: Collection[str], form: Format | None) -> None:
    """Raises `ConfigurationError` if none of the operators of a rule can have its format."""
    if form is None or any(_is_supported(operator, form) for operator in operators):
        return
    problem = f"The rule {key!r} asks for a format that none of its operators can have."
    received = f"{form.name!r} for {', '.join(sorted(operators))}"
    raise ConfigurationError(explain(problem, received=received, expected="'float32', or another format"))


def _is_supported(operator: str, form: Format) -> bool:
    from ai_edge_quantizer import recipe_manager

    try:
        _add(recipe_manager.RecipeManager(), ANY, operator, form)
    except (ConfigurationError, ValueError):  # an unknown operator, or one without this format
        return False
    return True


def _matching(file: File, pattern: str) -> list[str]:
    """The scopes of the operators with a part of a name that matches a pattern.

    The parts of "functional_1/head_1/BiasAdd" are its layers. Keras appends a number to some of them. The whole name of
    a tensor that an operator computes stands for itself.
    """
    names = {operator_scope(graph, one): _names(file, graph, one) for graph in file.graphs for one in graph.operators}
    exact = f"{pattern};"
    if exact in names:
        return [exact]
    numbered = re.compile(f"(?:{fnmatch.translate(pattern)[:-2]})(_[0-9]+)?" + r"\Z")
    found = [scope for scope, parts in names.items() if any(numbered.match(part) for part in parts)]
    if not found:
        known = ", ".join(sorted({part for parts in names.values() for part in parts if "/" not in part}))
        expected = f"an operator in capitals, or a pattern for one of {known[:500]}"
        raise ConfigurationError(
            explain(f"The rule {pattern!r} names no layer of the file.", received=repr(pattern), expected=expected)
        )
    return found


def _names(file: File, graph: Graph, operator: StoredOperator) -> set[str]:
    """The names of the outputs of an operator and of its weights, the layers in them, and names in the signature.

    The last tensor of a file has lost the name of its layer.
    """
    constants = [index for index in operator.inputs if index >= 0 and file.stored_bytes(graph.tensors[index])]
    names = {graph.tensors[index].name for index in (*operator.outputs, *constants) if index >= 0}
    parts = {part for name in names for whole in name.split(";") for part in (whole, *whole.split("/")) if part}
    if graph is file.graphs[0]:
        parts |= {name for name, index in named_ends(file)[1] if index in operator.outputs}
    return parts


def _add(engine: Any, regex: str, operator: str, form: Format | None) -> None:
    from ai_edge_quantizer import qtyping

    name = qtyping.TFLOperationName
    try:
        operator = name(operator)
    except ValueError as error:
        known = ", ".join(sorted(one.value for one in name if one.value.isupper()))
        raise ConfigurationError(
            explain("ai-edge-quantizer does not quantize this operator.", received=operator, expected=f"one of {known}")
        ) from error
    if form is None:
        engine.update_quantization_recipe(regex, operator, algorithm_key="no_quantize")
    elif form.needs_calibration:
        bits = {"int8": 8, "int16": 16}[form.activations]
        engine.add_static_config(regex, operator, activation_num_bits=bits, weight_num_bits=8)
    elif isinstance(form, Int4):
        kind = qtyping.QuantGranularity
        granularity = kind.CHANNELWISE if form.block_size is None else kind(f"BLOCKWISE_{form.block_size}")
        engine.add_dynamic_config(regex, operator, num_bits=4, granularity=granularity)
    else:
        engine.add_dynamic_config(regex, operator, num_bits=8)


def _statistics(file: File, ranges: Mapping[str, tuple[float, float]]) -> dict[str, dict[str, np.ndarray]]:
    """Ranges as the quantizer takes them: with the number of dimensions of the tensor."""
    found = {}
    for graph in file.graphs:
        for tensor in graph.tensors:
            if tensor.name in ranges:
                ends = zip(("min", "max"), ranges[tensor.name], strict=True)
                found[tensor.name] = {
                    end: np.full((1,) * len(tensor.shape or ()), value, "float32") for end, value in ends
                }
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantizer's prints and warnings about rules that override each other."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.filterwarnings("ignore", ".*experimental_preserve_all_tensors", UserWarning)
            yield
    finally:
        logger.setLevel(level)
