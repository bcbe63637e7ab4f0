"""The base of teachers composed of teachers: running the members, inner layers by member, serialization."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from keras import ops

from keras_kd import files
from keras_kd.errors import ConfigurationError, TeacherError, check_number, explain
from keras_kd.features import ModelOutputs
from keras_kd.serialization import deserialize, nearest, register, serialize
from keras_kd.teachers.absent import AbsentTeacher
from keras_kd.teachers.base import Batch, Teacher
from keras_kd.teachers.frozen import as_teacher


class Group(Teacher):
    """A teacher composed of other teachers.

    Args:
        members: teachers, Keras models, or paths of `.keras` files.
        inputs: for each member, a function from the batch's `x` to the member's, or None; None passes `x` unchanged to
            all members.
        labels: the name of each member in paths.

    Raises:
        ConfigurationError: no members, a member that runs outside the training step, or a wrong number of inputs.
    """

    def __init__(
        self,
        members: Sequence[Any],
        *,
        inputs: Sequence[Callable[[Any], Any] | None] | None,
        labels: Sequence[str] | None = None,
    ):
        self.members = self._checked(members)
        self.inputs = self.one_for_each("inputs", inputs)
        self.labels = list(map(str, range(len(self.members)))) if labels is None else list(labels)

    def run_members(self, batch: Batch, taps: Sequence[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The logits of each member by output name, and the inner layers by the group's paths."""
        outputs, inner = [], {}
        for label, member, prepare in zip(self.labels, self.members, self.inputs, strict=True):
            own = [path.partition("/")[2] for path in taps if path.partition("/")[0] == label]
            seen = batch if prepare is None else batch._replace(x=prepare(batch.x))
            of_member = member(seen, own)
            inner |= {f"{label}/{path}": value for path, value in of_member.taps.items()}
            outputs.append(of_member.outputs)
        return outputs, inner

    def inner_taps(self, names: Iterable[str]) -> dict[str, tuple[int | None, ...] | None]:
        """The inner layers among `names`, each `"member/path"`.

        Raises:
            ConfigurationError: a path does not start with a member, or does not exist in it.
        """
        found = {}
        for name in dict.fromkeys(names):
            label, _, path = name.partition("/")
            if name in (self.output_shapes or {}):
                continue
            if label in self.labels and path:
                found |= {
                    f"{label}/{p}": s for p, s in self.members[self.labels.index(label)].inner_taps([path]).items()
                }
            elif self.output_shapes is not None:
                raise self._no_member(name)
        return found

    @property
    def variables(self) -> list[Any]:
        return [variable for member in self.members for variable in member.variables]

    @property
    def traced_settings(self) -> Any:
        return [member.traced_settings for member in self.members]

    def callbacks(self) -> list[Any]:
        return [callback for member in self.members for callback in member.callbacks()]

    @property
    def supports_jit(self) -> bool:
        return all(member.supports_jit for member in self.members)

    @property
    def fingerprint(self) -> str:
        """A SHA-256 over the members' fingerprints and the settings, as `sha256:` and 64 hex digits."""
        settings = {name: value for name, value in self.get_settings().items() if name != "members"}
        identity = [type(self).__name__, [member.fingerprint for member in self.members], settings]
        return files.fingerprint(files.digest_of_json(identity))

    def get_settings(self) -> dict[str, Any]:
        """The config without the members."""
        return {"inputs": [serialize(function) for function in self.inputs]}

    def get_config(self) -> dict[str, Any]:
        return {"members": [serialize(member) for member in self.members], **self.get_settings()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Teacher:
        """The group, or an `AbsentGroup` if a member's file no longer exists."""
        members, inputs = ([deserialize(item) for item in config[name]] for name in ("members", "inputs"))
        group = cls(**{**config, "members": members, "inputs": inputs})
        return AbsentGroup(group, config) if any(isinstance(member, AbsentTeacher) for member in members) else group

    def one_for_each(self, name: str, values: Any) -> list[Any]:
        """A list with one value per member, all None if `values` is None."""
        if values is None:
            return [None] * len(self.members)
        if isinstance(values, (list, tuple)) and len(values) == len(self.members):
            return list(values)
        raise ConfigurationError(
            explain(
                f"{name!r} needs one value per member.",
                received=repr(values),
                expected=f"a list of {len(self.members)}",
            )
        )

    def _checked(self, members: Any) -> list[Teacher]:
        if not isinstance(members, (list, tuple)) or not members:
            kind = type(self).__name__
            raise ConfigurationError(
                explain(
                    f"{kind} takes a list of teachers.",
                    received=repr(members),
                    expected=f"{kind}([teacher, teacher])",
                )
            )
        members = [as_teacher(member) for member in members]
        for index, member in enumerate(members):
            if member.runs_outside_step:
                raise ConfigurationError(
                    explain(
                        "The outputs of this teacher are attached to the batches; it cannot be part of "
                        f"{type(self).__name__}.",
                        received=f"a {type(member).__name__} as member {index}",
                        expected="teachers that run inside the training step",
                        fix=f"Combine the live teachers in {type(self).__name__}, then cache the result.",
                    )
                )
        return members

    def _no_member(self, name: str) -> ConfigurationError:
        return ConfigurationError(
            explain(
                f"The {type(self).__name__} has no output of this name, and no inner layers of its own.",
                received=repr(name),
                expected=f"an output ({', '.join(map(repr, self.output_shapes or {}))}), or a path with the member in "
                f"front ({', '.join(repr(label + '/...') for label in self.labels)})",
                fix=nearest(name, self.output_shapes or {}) or None,
            )
        )


@register
class AbsentGroup(AbsentTeacher):
    """Placeholder for a group with missing members in a saved distiller; calling it raises an error that lists them."""

    def __init__(self, group: Group, config: dict[str, Any]):
        super().__init__(None, None, group.fingerprint)
        self.group = group
        self.config = config  # as saved, so that restored files are found again

    def __call__(self, batch: Batch, taps: Sequence[str] = ()) -> ModelOutputs:
        missing = [
            f"{label!r} ({getattr(member, 'path', None) or 'never in a file'})"
            for label, member in zip(self.group.labels, self.group.members, strict=True)
            if isinstance(member, AbsentTeacher)
        ]
        kind = type(self.group).__name__
        raise TeacherError(
            explain(
                f"This distiller was loaded without all members of its {kind}.",
                received=f"nothing for {', '.join(missing)}",
                expected=f"the {kind} with fingerprint {self.fingerprint}",
                fix=f"Set `distiller.teacher = {kind}([...])` with the same members before `fit`.",
            )
        )

    def get_config(self) -> dict[str, Any]:
        return {"group": {**serialize(self.group), "config": self.config}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Teacher:
        """The group, if all its members exist again."""
        return deserialize(config["group"])


@register
@dataclasses.dataclass(frozen=True)
class Resized:
    """Resizes images for a teacher trained on another size: `inputs=[None, Resized(64, 64)]`.

    Args:
        height, width: in pixels.
        interpolation: as in `keras.ops.image.resize`.

    >>> Resized(4, 6)(ops.zeros((1, 2, 3, 1))).shape
    TensorShape([1, 4, 6, 1])
    """

    height: int
    width: int
    interpolation: str = "bilinear"

    def __post_init__(self):
        for name in ("height", "width"):
            check_number(name, getattr(self, name), at_least=1)

    def __call__(self, x: Any) -> Any:
        """Resizes `[batch, ?, ?, channels]` to `[batch, height, width, channels]`."""
        return ops.image.resize(x, (self.height, self.width), interpolation=self.interpolation)

    def get_config(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Resized:
        return cls(**config)
