"""`check_delegate`: its arguments, XNNPACK for real, and damaged files."""

import dataclasses
import json

import numpy as np
import pytest

import keras_kd as kd
from keras_kd.errors import ConfigurationError
from keras_kd.export.delegates import DELEGATES, TABLES
from keras_kd.export.delegates.checking import check_by_table
from keras_kd.litert import Signature, read_file

FORMATS = ["float32", "float16", "dynamic", "int8", "int16x8"]


@pytest.mark.parametrize("delegate", ["tpu", "GPU", "", None, 3, "all"])
def test_an_unknown_delegate_is_an_error_with_the_choices(delegate):
    with pytest.raises(ConfigurationError, match="Invalid 'delegate'.*'gpu'"):
        kd.export.check_delegate(b"", delegate)


@pytest.mark.parametrize("file", [None, 3, ["a.tflite"], {}])
def test_a_file_of_another_type_is_an_error(file):
    with pytest.raises(ConfigurationError, match="Invalid 'file'"):
        kd.export.check_delegate(file, "gpu")


def test_missing_files_and_folders_are_errors(tmp_path):
    for path in (tmp_path / "nothing.tflite", tmp_path):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            kd.export.check_delegate(path, "gpu")


def test_a_path_its_content_and_a_read_file_give_the_same_answer(net, tmp_path):
    path = tmp_path / "net.tflite"
    path.write_bytes(net("conv"))
    answers = [kd.export.check_delegate(file, "gpu") for file in (path, str(path), net("conv"), read_file(path))]
    assert answers == [answers[0]] * 4


@pytest.mark.parametrize("form", FORMATS)
def test_xnnpack_runs_and_says_so(net, form):
    found = kd.export.check_delegate(net("conv", form), "xnnpack")
    assert found.basis == "run here"
    assert "ai-edge-litert" in found.source
    assert len(found.operators) == len(read_file(net("conv", form)).graphs[0].operators)
    taken = {one.name for one in found.operators if one.is_taken}
    if form == "int16x8":
        assert (taken, found.num_partitions) == (set(), 0)
        assert {one.refusal.kind for one in found.fallbacks} == {"unexplained"}
    else:
        assert {"CONV_2D", "MAX_POOL_2D", "FULLY_CONNECTED"} <= taken
        assert found.is_whole


def test_xnnpack_leaves_what_it_has_no_kernel_for(net):
    assert kd.export.check_delegate(net("conv3d"), "xnnpack").operators[0].is_fallback
    assert not kd.export.check_delegate(net("cumsum"), "xnnpack").is_whole
    found = kd.export.check_delegate(net("softmax", "int8"), "xnnpack")
    assert [one.name for one in found.fallbacks] == ["SOFTMAX"]


@pytest.mark.parametrize("delegate", DELEGATES)
def test_the_text_and_the_json_carry_the_same(net, delegate):
    found = kd.export.check_delegate(net("conv3d"), delegate)
    text = str(found)
    assert text.startswith(f"{found.title} ({found.basis}): {found.num_taken} of 3 operators")
    assert f"Source: {found.source}" in text
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["is_whole"] is found.is_whole
    assert [one["name"] for one in plain["operators"]] == ["CONV_3D", "RESHAPE", "FULLY_CONNECTED"]
    for one in found.fallbacks:
        assert one.refusal.reason in text
        assert one.refusal.advice in text


def test_every_graph_with_a_signature_is_checked(one_operator):
    file = one_operator("RELU", [(1, 4)])
    again = dataclasses.replace(
        file,
        graphs=file.graphs * 3,
        signatures=(Signature("a", 0, {}, {}), Signature("b", 2, {}, {})),
    )
    found = check_by_table(again, TABLES["gpu"])
    assert [one.graph for one in found.operators] == [0, 2]
    assert found.num_partitions == 2


def test_xnnpack_does_not_vouch_for_graphs_that_litert_does_not_list(net):
    file = read_file(net("conv"))
    again = dataclasses.replace(
        file, graphs=file.graphs * 2, signatures=(Signature("a", 0, {}, {}), Signature("b", 1, {}, {}))
    )
    found = kd.export.check_delegate(again, "xnnpack")
    assert [one.is_taken for one in found.operators] == [True] * 4 + [False] * 4
    assert not found.is_whole


def mutated(content, generator):
    """The content with some bytes changed, cut off or repeated."""
    damaged = bytearray(content)
    for _ in range(generator.integers(1, 9)):
        damaged[generator.integers(len(damaged))] = generator.integers(256)
    kind = generator.integers(8)
    if kind == 0:
        return bytes(damaged[: generator.integers(len(damaged))])
    if kind == 1:
        start, size = generator.integers(len(damaged)), generator.integers(1, 64)
        damaged[start:start] = damaged[start : start + size]
    return bytes(damaged)


def check_mutated(contents, number, seed):
    generator = np.random.default_rng(seed)
    refused = 0
    for case in range(number):
        content = mutated(contents[case % len(contents)], generator)
        for delegate in TABLES:
            try:
                str(kd.export.check_delegate(content, delegate))
            except ConfigurationError:
                refused += 1
    assert 0 < refused < number * len(TABLES)


@pytest.fixture(scope="module")
def contents(net):
    return [net("conv"), net("conv", "int8"), net("unrolled"), net("lstm"), net("conv", "float16")]


def test_mutated_files_give_an_answer_or_a_readable_error(contents):
    check_mutated(contents, 200, seed=0)


@pytest.mark.long
def test_many_mutated_files_give_an_answer_or_a_readable_error(contents):
    check_mutated(contents, 5000, seed=1)


def test_a_mutated_file_that_xnnpack_loads_crashes_a_child_at_most(contents):
    generator = np.random.default_rng(3)
    for case in range(4):
        try:
            kd.export.check_delegate(mutated(contents[case], generator), "xnnpack")
        except ConfigurationError as error:
            assert "\n" not in str(error)[:400] or "LiteRT" in str(error)
