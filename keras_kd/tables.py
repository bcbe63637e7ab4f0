"""Rows of text as aligned columns."""

from __future__ import annotations

from collections.abc import Container


def format_table(rows: list[tuple[str, ...]], *, right: Container[str] = ()) -> str:
    """Formats rows, starting with the header, as aligned columns of text.

    Args:
        rows: texts without line breaks, as many in each row as in the header.
        right: the headers of the columns that are aligned on the right.

    >>> print(format_table([("name", "bytes"), ("kernel", "12")], right=["bytes"]))
    name    bytes
    ------  -----
    kernel     12
    """
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    aligned = [
        [cell.rjust(width) if column[0] in right else cell.ljust(width) for cell in column]
        for column, width in zip(columns, widths, strict=True)
    ]
    lines = ["  ".join(row).rstrip() for row in zip(*aligned, strict=True)]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def cut(text: str, width: int) -> str:
    """A text as one printable line of at most `width` characters; the middle of a longer one is left out.

    >>> cut("model/block_1/conv/kernel", 16), cut("two\\nlines", 16)
    ('model/b...kernel', 'two?lines')
    """
    if len(text) > width:
        end = (width - 3) // 2
        text = f"{text[: width - 3 - end]}...{text[len(text) - end :]}"
    return "".join(character if character.isprintable() else "?" for character in text)
