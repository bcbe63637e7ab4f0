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


def human_number(number: int) -> str:
    """A large number with three digits and a suitable unit: thousand (k), million (M), billion (G) and so on.

    >>> human_number(999), human_number(12_345), human_number(300_774_272), human_number(10**30)
    ('999', '12.3 k', '301 M', '1.0e+30')
    """
    if number < 1000:
        return str(number)
    if number >= 10**18:
        return f"{number:.1e}"
    power = (len(str(number)) - 1) // 3
    power += number >= 999.5 * 1000**power
    value = number / 1000**power
    return f"{value:.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f} {' kMGTP'[power]}"
