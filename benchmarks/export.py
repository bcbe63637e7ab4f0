"""Every format of the export, on random and trained models: does it convert, is it right, which delegate takes it?

    python benchmarks/export.py --data-dir DIR [--models MobileNetV2 digits ...] [--only table]

`keras.applications` with random weights at 224x224, 16 random images; trained models with 200 training examples for
calibration and a fifth of the training data for the guard, whose promise is checked on the test data. Each file is one
line of results/export.jsonl; those that are there are not made again. Latency: all files of a model in turn, 1 thread,
5 rounds, as a ratio of medians to float32; 50 runs of a trained model, 15 of the others.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from pathlib import Path

import keras
import numpy as np
from common import RESULTS, environment, markdown, write
from export_models import APPLICATIONS, TRAINED, Case, application, normalize, trained

import keras_kd as kd
from keras_kd.evaluation import TFLiteRunner, compare_latency
from keras_kd.litert import FORMATS, Model

RECORD = RESULTS / "export.jsonl"
DELEGATES = ("xnnpack", "gpu", "edgetpu")
DROP = 0.5
TEACHER, STUDENT = "wrn_40_2", "resnet8"
PAIR = f"{TEACHER} and {STUDENT}"


def accuracy(path, data):
    (output,) = Model(path, num_threads=1).predict(data[0]).values()
    return float((output.argmax(-1) == data[1]).mean())


def measure(name: str, case: Case, folder: Path, converter) -> list[dict]:
    records, files = [], {}
    for form in FORMATS:
        record = {"model": name, "format": form}
        path = folder / f"{form}.tflite"
        try:
            result = kd.export_tflite(
                case.model, path, format=form, calibration=case.samples, batch_size=1, converter=converter
            )
        except (kd.errors.ConfigurationError, kd.errors.ExportError) as error:
            record["problem"] = str(error)
        else:
            record |= {"bytes": result.num_bytes, "gzip_bytes": result.gzip_bytes, "snr": result.snr}
            record |= {"agreement": result.agreement, "writer": result.quantizer, "floats": result.float_operators}
            record["whole"] = [one for one in DELEGATES if kd.export.check_delegate(path, one).is_whole]
            record |= {"accuracy": accuracy(path, case.test)} if case.test else {}
            files[form] = path
        records.append(record)
        print({key: value for key, value in record.items() if key != "floats"}, flush=True)
    runners = {form: TFLiteRunner(path) for form, path in files.items()}
    latencies = compare_latency(runners, case.samples[:1], warmup=2, min_runs=50 if case.test else 15)
    for record in records:
        if record["format"] in latencies:
            record["p50_ms"] = latencies[record["format"]].p50_ms
            record["latency"] = record["p50_ms"] / latencies["float32"].p50_ms
    if case.validation:
        records.append(guarded(name, case, folder, converter))
    return records


def guarded(name: str, case: Case, folder: Path, converter) -> dict:
    found = kd.export.export_guarded(
        case.model,
        folder / "guarded.tflite",
        max_accuracy_drop=DROP,
        validation=case.validation,
        calibration=case.samples,
        converter=converter,
    )
    print(found, flush=True)
    chosen = found.tries[found.chosen]
    return {
        "model": name,
        "format": "guarded",
        "chosen": chosen.title,
        "bytes": chosen.num_bytes,
        "validation_drop": chosen.drop,
        "accuracy": accuracy(found.export.path, case.test),
        "tries": [one.title for one in found.tries],
    }


def pair(converter) -> dict:
    """The latency of a CIFAR teacher's float32 file over that of a student's int8 file, random weights, 9 rounds."""
    images = np.random.default_rng(0).random((100, 32, 32, 3), dtype="float32")
    runners = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, form in ((TEACHER, "float32"), (STUDENT, "float32"), (STUDENT, "int8")):
            keras.utils.set_random_seed(0)
            model = kd.models.build(name, input_shape=(32, 32, 3), num_classes=10)
            normalize(model, images)
            path = Path(folder) / f"{name}_{form}.tflite"
            kd.export_tflite(model, path, format=form, calibration=images, converter=converter)
            runners[f"{name} {form}"] = TFLiteRunner(path)
        latencies = compare_latency(runners, images[:1], rounds=9, min_runs=180)
    teacher, *students = latencies
    medians = {name: one.p50_ms for name, one in latencies.items()}
    return {"model": PAIR, "p50_ms": medians, "times": {name: medians[teacher] / medians[name] for name in students}}


def tables(records: list[dict]) -> str:
    """A table for each aspect, a row for each model and a column for each format; reasons of failures below."""
    forms = [form for form in FORMATS if form not in ("int4_block64", "int4_block256")]
    by_model: dict[str, dict[str, dict]] = {}
    pairs = [one for one in records if one["model"] == PAIR]
    records = [one for one in records if one["model"] != PAIR]
    for one in records:
        by_model.setdefault(one["model"], {})[one["format"]] = one
    aspects = {
        "Bytes, as a share of float32": lambda one, base: f"{one['bytes'] / base['bytes']:.3f}",
        "Signal-to-noise ratio in dB": lambda one, base: "-" if one["snr"] is None else f"{min(one['snr'], 150):.0f}",
        "Latency, as a share of float32": lambda one, base: f"{one['latency']:.2f}",
        "Whole on X (XNNPACK), G (GPU), E (Edge TPU)": lambda one, base: (
            " ".join(name[0].upper() for name in one["whole"]) or "-"
        ),
    }
    parts = []
    for title, cell in aspects.items():
        rows = [
            [name, *(_cell(cell, own.get(form), own["float32"]) for form in forms)] for name, own in by_model.items()
        ]
        parts.append(f"{title}:\n\n{markdown(['model', *(f'`{form}`' for form in forms)], rows)}")
    parts.append(
        f"Test accuracy, and the file that the guard chose for {DROP} points:\n\n{_accuracies(by_model, forms)}"
    )
    for one in pairs:
        faster = ", ".join(f"{name} {times:.1f} times" for name, times in one["times"].items())
        parts.append(
            f"Against the file {TEACHER} float32 ({one['p50_ms'][f'{TEACHER} float32']:.2f} ms), faster: {faster}."
        )
    problems: dict[str, list[str]] = {}
    for one in records:
        if "problem" in one:
            place = re.sub(r"/tmp/\S+", "the file", one["problem"].replace("\n", " "))
            problems.setdefault(place[:160], []).append(f"{one['model']} {one['format']}")
    parts += [f"- {', '.join(names)}: {problem}" for problem, names in problems.items()]
    return "\n\n".join(parts)


def _cell(cell, one: dict | None, base: dict) -> str:
    return "" if one is None else "no" if "problem" in one else cell(one, base)


def _accuracies(by_model: dict[str, dict[str, dict]], forms: list[str]) -> str:
    header = ["model", *(f"`{form}`" for form in forms), "guarded", "drop on validation", "drop on test"]
    rows = []
    for name, own in by_model.items():
        if "guarded" not in own:
            continue
        base, guard = own["float32"]["accuracy"], own["guarded"]
        cells = [_cell(lambda one, base: f"{one['accuracy']:.1%}", own.get(form), own["float32"]) for form in forms]
        drops = [f"{guard['validation_drop']:+.2f}", f"{100 * (base - guard['accuracy']):+.2f}"]
        rows.append([name, *cells, f"{guard['chosen']}: {guard['accuracy']:.1%}", *drops])
    return markdown(header, rows)


def save(records: list[dict]) -> None:
    RECORD.write_text("".join(json.dumps(one) + "\n" for one in records))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--models", nargs="+", default=[*TRAINED, *APPLICATIONS])
    parser.add_argument("--only", choices=["table"])
    options = parser.parse_args()
    records = [json.loads(line) for line in RECORD.read_text().splitlines()] if RECORD.exists() else []
    done = {one["model"] for one in records}
    with kd.export.Converter() as converter:
        for name in [] if options.only else [one for one in options.models if one not in done]:
            case = trained(name, options.data_dir) if name in TRAINED else application(name)
            with tempfile.TemporaryDirectory() as folder:
                found = measure(name, case, Path(folder), converter)
            records += [one | {"environment": environment()} for one in found]
            save(records)
        if options.only is None and PAIR not in done:
            records.append(pair(converter) | {"environment": environment()})
            save(records)
    results = {"environment": records[0]["environment"], "records": len(records)}
    write("export", results, tables(records), "python benchmarks/export.py --data-dir DIR")


if __name__ == "__main__":
    main()
