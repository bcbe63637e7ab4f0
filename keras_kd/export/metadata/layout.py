"""Tables of FlatBuffers that are described by data: written from and read into plain dictionaries.

Source: the binary format of FlatBuffers, https://flatbuffers.dev/internals.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping
from typing import Any

import flatbuffers
from flatbuffers import number_types
from flatbuffers.table import Table as Stored

DAMAGE = (struct.error, IndexError, KeyError, TypeError, ValueError, OverflowError)
_READS_PER_BYTE = 8


@dataclasses.dataclass(frozen=True)
class Number:
    """A number in a table, or an element of a vector."""

    flags: Any

    @property
    def size(self) -> int:
        return self.flags.bytewidth


@dataclasses.dataclass(frozen=True)
class Text:
    """A string in UTF-8."""


@dataclasses.dataclass(frozen=True)
class Vector:
    """A list of numbers, strings or tables."""

    of: Number | Text | Table


@dataclasses.dataclass(frozen=True)
class Union:
    """One of several tables. Its value is a dictionary with the single key of the table's name."""

    of: tuple[Table, ...]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table: its name, and its fields in the order of the schema."""

    name: str
    fields: Mapping[str, Number | Text | Vector | Union | Table] = dataclasses.field(default_factory=dict, hash=False)

    def slots(self) -> dict[str, int]:
        """The place of each field. A union takes two: one for the kind of its table, one for the table."""
        places, place = {}, 0
        for name, kind in self.fields.items():
            place += isinstance(kind, Union)
            places[name] = place
            place += 1
        return places

    @property
    def num_slots(self) -> int:
        return len(self.fields) + sum(isinstance(kind, Union) for kind in self.fields.values())


BYTE, INT, UINT, FLOAT = (
    Number(flags)
    for flags in (
        number_types.Int8Flags,
        number_types.Int32Flags,
        number_types.Uint32Flags,
        number_types.Float32Flags,
    )
)
TEXT = Text()


# Writing.


def write(table: Table, values: Mapping[str, Any], identifier: bytes) -> bytes:
    """The bytes of a table. Fields that `values` lacks, or whose value is None, are not written."""
    builder = flatbuffers.Builder()
    builder.Finish(_write_table(builder, table, values), identifier)
    return bytes(builder.Output())


def _write_table(builder: flatbuffers.Builder, table: Table, values: Mapping[str, Any]) -> int:
    given = {name: value for name, value in values.items() if value is not None}
    kinds = {name: table.fields[name] for name in given}
    if unknown := given.keys() - table.fields.keys():
        raise KeyError(f"{table.name} has no {unknown}")
    placed = {  # what lies outside of the table is written before it
        name: _write_outside(builder, kind, given[name]) for name, kind in kinds.items() if not isinstance(kind, Number)
    }
    slots = table.slots()
    builder.StartObject(table.num_slots)
    for name, kind in kinds.items():
        if isinstance(kind, Number):
            builder.PrependSlot(kind.flags, slots[name], given[name], None)
            continue
        if isinstance(kind, Union):
            (chosen,) = given[name]
            builder.PrependUint8Slot(slots[name] - 1, 1 + [one.name for one in kind.of].index(chosen), 0)
        builder.PrependUOffsetTRelativeSlot(slots[name], placed[name], 0)
    return builder.EndObject()


def _write_outside(builder: flatbuffers.Builder, kind: Text | Vector | Union | Table, value: Any) -> int:
    if isinstance(kind, Text):
        return builder.CreateString(value)
    if isinstance(kind, Table):
        return _write_table(builder, kind, value)
    if isinstance(kind, Union):
        ((name, values),) = value.items()
        return _write_table(builder, next(one for one in kind.of if one.name == name), values)
    if isinstance(kind.of, Number):
        builder.StartVector(kind.of.size, len(value), kind.of.size)
        for number in reversed(value):
            builder.Prepend(kind.of.flags, number)
        return builder.EndVector()
    places = [_write_outside(builder, kind.of, one) for one in value]
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    return builder.EndVector()


# Reading.


def read(table: Table, content: bytes) -> dict[str, Any]:
    """The values of a table, without the fields that it lacks. An error of `DAMAGE` means that it is damaged."""
    return _Reader(content).table(table, struct.unpack_from("<I", content, 0)[0])


class _Reader:
    """Reads tables. The work is limited by the size of the content."""

    def __init__(self, content: bytes):
        self._content = content
        self._left = _READS_PER_BYTE * len(content) + 100

    def table(self, table: Table, place: int) -> dict[str, Any]:
        if not 4 <= place < len(self._content):
            raise ValueError(f"a table at byte {place:,} of {len(self._content):,}")
        stored, slots, values = Stored(self._content, place), table.slots(), {}
        for name, kind in table.fields.items():
            offset = stored.Offset(4 + 2 * slots[name])
            if not offset:
                continue
            if isinstance(kind, Union):
                chosen = stored.Get(number_types.Uint8Flags, place + stored.Offset(2 + 2 * slots[name]))
                if not 0 < chosen <= len(kind.of):  # of a later version of the schema
                    continue
                one = kind.of[chosen - 1]
                values[name] = {one.name: self._value(stored, one, place + offset)}
            else:
                values[name] = self._value(stored, kind, place + offset)
        return values

    def _value(self, stored: Stored, kind: Number | Text | Vector | Table, place: int) -> Any:
        self._spend(1)
        if isinstance(kind, Number):
            return stored.Get(kind.flags, place)
        if isinstance(kind, Table):
            return self.table(kind, stored.Indirect(place))
        if isinstance(kind, Text):
            text = stored.String(place)
            self._spend(len(text))
            return text.decode(errors="replace")
        start = stored.Indirect(place)
        length, size = stored.Get(number_types.Uint32Flags, start), getattr(kind.of, "size", 4)
        self._spend(length)
        return [self._value(stored, kind.of, start + 4 + number * size) for number in range(length)]

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise ValueError("lists that are longer than the content")
