"""Subgraphs on graphs made by hand, and against the subgraphs that LiteRT itself forms."""

import pytest

from keras_kd.export.delegates.partitions import partitions
from keras_kd.litert import read_file, xnnpack_placement

SHAPE = ((1, 4), "float32")


def graph(made_file, *edges):
    """A graph of operators, each given by its inputs and its output."""
    names = dict.fromkeys(name for edge in edges for name in edge.replace("->", " ").split())
    operators = []
    for edge in edges:
        sources, target = edge.split("->")
        operators.append(("ADD", 1, sources.split(), target.split(), {}))
    return made_file(operators, {name: SHAPE for name in names}, ["x"], [operators[-1][3][0]]).graphs[0]


@pytest.mark.parametrize(
    ("edges", "taken", "expected"),
    [
        (["x->a", "a->b", "b->c"], {0, 1, 2}, [[0, 1, 2]]),
        (["x->a", "a->b", "b->c"], {0, 2}, [[0], [2]]),
        (["x->a", "a->b", "b->c"], set(), []),
        (["x->a", "a->b", "a b->c"], {0, 2}, [[0], [2]]),  # a residual round the fallback
        (["x->a", "a->b", "a->d", "b d->c"], {0, 2, 3}, [[0, 2], [3]]),  # a branch beside the fallback joins the first
        (["x->a", "a->b", "a->d", "b d->c", "c->e"], {0, 2, 3, 4}, [[0, 2], [3, 4]]),
        (["x->a", "x->b", "a->c"], {0, 2}, [[0, 2]]),  # a fallback in the middle of the file, on which nothing depends
        (["x->a", "a->b", "b->c", "x->d", "c d->e"], {0, 2, 3, 4}, [[0, 3], [2, 4]]),
        (["x->a", "a->b", "b->c"], {1}, [[1]]),
        (["a->b", "x->a"], {0, 1}, [[1, 0]]),
    ],
    ids=["whole", "middle", "none", "residual", "branch", "tail", "independent", "late", "only_middle", "reversed"],
)
def test_partitions_follow_dependencies_not_the_order_of_the_file(made_file, edges, taken, expected):
    assert partitions(graph(made_file, *edges), taken) == expected


def test_operators_that_wait_for_each_other_are_in_no_subgraph(made_file):
    assert partitions(graph(made_file, "b->a", "a->b", "x->c"), {0, 1, 2}) == [[2]]


@pytest.mark.parametrize("name", ["conv", "five", "lstm", "normalized", "unrolled"])
def test_litert_forms_as_many_subgraphs(net, name):
    from keras_kd.export.delegates.xnnpack import replaced_operators

    content = net(name)
    main = read_file(content).graphs[0]
    placed = xnnpack_placement(content)
    delegates = placed[len(main.operators) :]
    found = partitions(main, replaced_operators(main.operators, delegates))
    assert len(found) == len(delegates)
    ends = [{output for place in one for output in main.operators[place].outputs} for one in found]
    for delegate in delegates:
        assert any(set(delegate.outputs) <= end for end in ends)
