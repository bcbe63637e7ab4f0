"""The notebooks run from the first cell to the last, with fewer epochs."""

from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_runs(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("= 40, 60", "= 2, 2")
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.get("text", "") for output in outputs)
    pictures = [output for output in outputs if "image/svg+xml" in output.get("data", {})]
    assert "int8:" in text and "parameters" in text and len(pictures) == 2
    assert (tmp_path / "student_int8.tflite").exists() and (tmp_path / "student.keras").exists()
