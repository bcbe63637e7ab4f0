"""Numbers formatted for people."""

from __future__ import annotations


def human_bytes(num_bytes: float) -> str:
    """A number of bytes with three digits and a suitable unit.

    >>> human_bytes(512), human_bytes(24_000), human_bytes(2_500_000), human_bytes(65_536)
    ('512 B', '23.4 KiB', '2.38 MiB', '64 KiB')
    """
    value, unit = float(num_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    decimals = 0 if value == int(value) or value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{decimals}f} {unit}"
