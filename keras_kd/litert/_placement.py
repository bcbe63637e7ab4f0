"""A script for a child process: loads a LiteRT file with XNNPACK, or on the GPU, and prints what runs where.

    python _placement.py xnnpack FILE
    python _placement.py gpu FILE

The answer is the last line of the standard output, in JSON. LiteRT may crash on a damaged file, and the GPU's driver on
any, so neither runs in the caller's process.
"""

from __future__ import annotations

import json
import sys


def xnnpack(path: str) -> dict[str, object]:
    """Every operator of the main graph, followed by the subgraphs of XNNPACK, which are called "DELEGATE"."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    details = interpreter._get_ops_details()  # the only list of operators; private, hence tested
    return {
        "operators": [
            {
                "name": one["op_name"],
                "inputs": [int(index) for index in one["inputs"]],
                "outputs": [int(index) for index in one["outputs"]],
            }
            for one in details
        ]
    }


def gpu(path: str) -> dict[str, object]:
    """Whether the GPU takes the whole file; what it refuses is in LiteRT's log, on the standard error."""
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator

    try:
        model = CompiledModel.from_file(path, hardware_accel=HardwareAccelerator.GPU)
    except RuntimeError as error:
        return {"is_whole": False, "error": str(error)}
    return {"is_whole": bool(model.is_fully_accelerated()), "error": ""}


if __name__ == "__main__":
    answer = {"xnnpack": xnnpack, "gpu": gpu}[sys.argv[1]](sys.argv[2])
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
