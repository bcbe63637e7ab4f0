"""Subgraphs on graphs made by hand, and against the subgraphs that LiteRT itself forms."""

import random

import pytest

from keras_kd.export.delegates.partitions import partitions
from keras_kd.litert import Graph, StoredOperator, StoredTensor, read_file, xnnpack_placement

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
        (["a->b", "x->a"], {0, 1}, [[0, 1]]),
    ],
    ids=["whole", "middle", "none", "residual", "branch", "tail", "independent", "late", "only_middle", "reversed"],
)
def test_partitions_follow_dependencies_not_the_order_of_the_file(made_file, edges, taken, expected):
    assert partitions(graph(made_file, *edges), taken) == expected


def test_operators_that_wait_for_each_other_are_in_no_subgraph(made_file):
    assert partitions(graph(made_file, "b->a", "a->b", "x->c"), {0, 1, 2}) == [[2]]


def by_passes(main, taken):
    """LiteRT's own way: passes over all operators until one finds nothing more."""
    missing = {output for one in main.operators for output in one.outputs}
    left, found = set(range(len(main.operators))), []
    while left:
        epoch, kind, before = [], None, -1
        while len(epoch) > before:
            before = len(epoch)
            for place in sorted(left - set(epoch)):
                if missing.isdisjoint(main.operators[place].inputs) and kind in (None, place in taken):
                    kind = place in taken
                    epoch.append(place)
                    missing.difference_update(main.operators[place].outputs)
        left -= set(epoch)
        found += [sorted(epoch)] if kind else []
    return found


def random_graph(rng, size):
    operators = []
    for place in range(size):
        inputs = tuple(rng.choices(range(-1, place + 1), k=rng.randrange(1, 4)))
        operators.append(StoredOperator("ADD", 1, False, inputs, (place + 1,)))
    tensors = (StoredTensor("x", "float32", (1,), (1,)),) * (size + 1)
    return Graph("main", tensors, tuple(operators), (0,), (size,))


def test_partitions_of_random_graphs():
    rng = random.Random(0)
    for _ in range(300):
        main = random_graph(rng, rng.randrange(1, 25))
        taken = {place for place in range(len(main.operators)) if rng.random() < 0.7}
        assert partitions(main, taken) == by_passes(main, taken)


def test_long_graphs_take_no_longer_than_their_length():
    """100,000 operators, every other of which falls back: by passes over all of them, this takes hours."""
    operators = [StoredOperator("ADD", 1, False, (place,), (place + 1,)) for place in range(100_000)]
    tensors = (StoredTensor("x", "float32", (1,), (1,)),) * 100_001
    found = partitions(Graph("main", tensors, tuple(operators), (0,), (100_000,)), set(range(0, 100_000, 2)))
    assert len(found) == 50_000


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
