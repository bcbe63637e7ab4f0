import pytest

from keras_kd.errors import ConfigurationError, check_choice, check_number, explain
from keras_kd.serialization import Registry, nearest, snake_case


def test_a_registry_makes_members_by_name():
    registry = Registry("thing")

    class BigThing:
        def __init__(self, size=1):
            self.size = size

    registry._members["big_thing"] = BigThing  # bypasses Keras' registry, which is global
    assert registry.names == ["big_thing"]
    assert registry.get("big_thing").size == 1
    assert registry.get({"name": "big_thing", "size": 3}).size == 3
    thing = BigThing()
    assert registry.get(thing) is thing
    with pytest.raises(ConfigurationError, match="Unknown thing.*'bigthing'.*Did you mean 'big_thing'"):
        registry.get("bigthing")
    with pytest.raises(ConfigurationError, match="does not take these settings.*color"):
        registry.get({"name": "big_thing", "color": "red"})
    with pytest.raises(ConfigurationError, match="Unsupported thing.*3"):
        registry.get(3)


def test_names():
    assert snake_case("SoftTargets") == "soft_targets"
    assert nearest("epoch", ["epochs", "seed"]) == "Did you mean 'epochs'?"
    assert nearest("xyz", ["epochs"]) == ""


def test_messages_have_all_their_parts():
    assert explain("No.", received=1, expected="2", fix="Do so.") == "No. Received: 1. Expected: 2. Do so."


@pytest.mark.parametrize("value", ["1", None, True, float("nan"), float("inf"), -1, 3])
def test_numbers_out_of_range_are_rejected(value):
    with pytest.raises(ConfigurationError, match="'size'.*0 <= size <= 2"):
        check_number("size", value, at_least=0, at_most=2)


def test_good_values_pass():
    assert check_number("size", 1, at_least=0) == 1.0
    assert check_choice("kind", "a", ("a", "b")) == "a"
