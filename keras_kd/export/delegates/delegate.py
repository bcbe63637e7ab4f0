"""Checks a LiteRT file against a delegate by its name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from keras_kd.errors import ConfigurationError, check_choice, explain
from keras_kd.export.delegates import xnnpack
from keras_kd.export.delegates.checking import check_by_table
from keras_kd.export.delegates.coreml import CORE_ML
from keras_kd.export.delegates.edgetpu import EDGE_TPU, on_chip_note
from keras_kd.export.delegates.gpu import GPU
from keras_kd.export.delegates.hexagon import HEXAGON
from keras_kd.export.delegates.nnapi import NNAPI
from keras_kd.export.delegates.qnn import QNN
from keras_kd.export.delegates.result import DelegateCheck
from keras_kd.export.delegates.rules import Table
from keras_kd.litert import File, read_file

TABLES: Mapping[str, Table] = MappingProxyType(
    {table.name: table for table in (GPU, EDGE_TPU, NNAPI, CORE_ML, QNN, HEXAGON)}
)
DELEGATES: tuple[str, ...] = tuple(sorted([*TABLES, xnnpack.NAME]))


def check_delegate(file: str | Path | bytes | File, delegate: str) -> DelegateCheck:
    """Which operators of a LiteRT file a delegate runs, why not the others, and what to change.

    XNNPACK is run: the file is loaded with it in a child process, and LiteRT lists what it replaced. All other
    delegates are checked by tables of their published rules, on no hardware: a phone's driver may refuse more, and a
    newer version of the delegate may take more. `keras_kd.litert.run_on_gpu` asks the GPU itself, where there is one.

    Args:
        file: the path of a file, its content, or what `keras_kd.litert.read_file` returned.
        delegate: one of `DELEGATES`: "gpu", "edgetpu", "xnnpack", "nnapi", "coreml", "qnn", "hexagon".

    Raises:
        ConfigurationError: the delegate is unknown, or the file is missing or damaged.

        check = kd.export.check_delegate("student.tflite", "gpu")
        print(check)
        if not check.is_whole:
            print(check.fallbacks[0].refusal.advice)
    """
    check_choice("delegate", delegate, DELEGATES)
    content = _read(file)
    if delegate == xnnpack.NAME:
        return xnnpack.check_by_running(content)
    found = check_by_table(content, TABLES[delegate])
    return on_chip_note(content, found) if delegate == EDGE_TPU.name else found


def _read(file: str | Path | bytes | File) -> File:
    if isinstance(file, File):
        return file
    if not isinstance(file, str | Path | bytes):
        expected = "the path of a file, or its content in bytes"
        raise ConfigurationError(explain("Invalid 'file'.", received=repr(type(file)), expected=expected))
    return read_file(file)
