"""Laws of all tables."""

import json
import re

import numpy as np
import pytest

from keras_kd.export.delegates import TABLES
from keras_kd.export.delegates.checking import check_by_table

EVERY = pytest.mark.parametrize("name", sorted(TABLES))


@EVERY
def test_every_rule_cites_its_source_and_names_operators_of_the_schema(name):
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    for rule in TABLES[name].rules:
        assert re.search(r"\.(cc|mm)|coral\.ai|google-coral", rule.source), rule
        for operator in rule.operators:
            assert hasattr(BuiltinOperator, operator), operator
        assert rule.max_version is None or 1 <= rule.min_version <= rule.max_version


@EVERY
def test_no_operator_has_two_rules(name):
    operators = [operator for rule in TABLES[name].rules for operator in rule.operators]
    assert sorted(operators) == sorted(set(operators))


@EVERY
def test_advice_names_operators_of_the_schema(name):
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    for operators, text in TABLES[name].advice:
        assert text.endswith((".", "`."))
        assert all(hasattr(BuiltinOperator, operator) for operator in operators)


@EVERY
def test_the_source_says_its_version(name):
    assert re.search(r"commit [0-9a-f]{8} \(\d{4}-\d\d-\d\d\)|compiler 16\.0", TABLES[name].source)
    assert TABLES[name].name == name


@EVERY
def test_a_table_says_by_table_and_never_verified(name, one_operator):
    found = check_by_table(one_operator("RELU", [(1, 4)]), TABLES[name])
    assert found.basis == "by table"
    assert "(by table)" in str(found)
    assert "verified" not in str(found).lower()
    json.dumps(found.to_dict())


@EVERY
def test_an_operator_of_a_later_version_than_the_table_knows_falls_back(name, one_operator):
    rule = next((rule for rule in TABLES[name].rules if rule.max_version is not None), None)
    if rule is None:
        assert name in ("coreml", "edgetpu", "qnn")  # their sources have no limits of versions for each operator
        return
    found = check_by_table(
        one_operator(rule.operators[0], [(1, 4)], version=rule.max_version + 1, dtype="int8"), TABLES[name]
    )
    assert [one.refusal.kind for one in found.operators] in (["version"], ["dtype"])


@EVERY
def test_custom_and_unlisted_operators_fall_back(name, made_file):
    tensors = {"x": ((1, 4), "float32"), "y": ((1, 4), "float32")}
    found = check_by_table(made_file([("HASHTABLE_FIND", 1, ["x"], ["y"], {})], tensors, ["x"], ["y"]), TABLES[name])
    assert [one.refusal.kind for one in found.fallbacks] == ["operator"]
    assert not found.is_whole
    assert found.num_partitions == 0


@EVERY
def test_a_graph_without_operators_is_not_taken(name, made_file):
    found = check_by_table(made_file([], {"x": ((1,), "float32")}, ["x"], ["x"]), TABLES[name])
    assert (found.operators, found.is_whole, found.share) == ((), False, 0.0)


@EVERY
def test_an_operator_without_inputs_or_outputs_does_not_break_the_check(name, made_file):
    operators = [(operator, 1, [], [], {}) for rule in TABLES[name].rules for operator in rule.operators]
    check_by_table(made_file(operators, {"x": ((1,), "float32")}, ["x"], ["x"]), TABLES[name])
    operators = [(operator, 1, [None, None], ["x"], {}) for rule in TABLES[name].rules for operator in rule.operators]
    check_by_table(made_file(operators, {"x": ((), "float32")}, [], ["x"]), TABLES[name])


@EVERY
def test_a_constant_that_is_cut_off_does_not_break_the_check(name, made_file):
    tensors = {"x": ((1, 4), "float32"), "axis": ((1,), "int32"), "y": ((1, 4), "float32")}
    for operator in ("MEAN", "TRANSPOSE", "PAD", "SPLIT_V", "STRIDED_SLICE"):
        operators = [(operator, 1, ["x", "axis"], ["y"], {})]
        file = made_file(operators, tensors, ["x"], ["y"], {"axis": np.zeros(3, "int8")})
        check_by_table(file, TABLES[name])
