"""Amounts as people read them: 1 KiB is 1024 bytes and 1 MiB 1024 KiB, as RequestMemory counts."""

from __future__ import annotations

_SIZES = ("KiB", "MiB", "GiB", "TiB", "PiB")
_AGES = ((86400, "days"), (3600, "h"), (60, "min"))


def size(number_of_bytes: float) -> str:
    """Bytes, with three digits."""
    if number_of_bytes < 1024:
        return f"{number_of_bytes:.0f} B"
    value = number_of_bytes / 1024
    unit = 0
    while value >= 999.5 and unit < len(_SIZES) - 1:
        value /= 1024
        unit += 1
    return f"{_three_digits(value)} {_SIZES[unit]}"


def _three_digits(value: float) -> str:
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def rate(bytes_per_second: float) -> str:
    """Bytes per second."""
    return f"{size(bytes_per_second)}/s"


def cores(number: float) -> str:
    """CPUs in use."""
    return f"{number:.2f} CPUs"


def duration(seconds: float) -> str:
    """Seconds; from a minute on as h:mm:ss."""
    if seconds >= 59.995:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
    if seconds == 0:
        return "0 s"
    return f"{seconds:.{3 if seconds < 1 else 2}f} s"


def age(seconds: float) -> str:
    """How long ago, in the largest unit of which there are two."""
    for unit, name in _AGES:
        if seconds >= 2 * unit:
            return f"{int(seconds / unit)} {name}"
    return f"{max(int(seconds), 0)} s"


def count(number: float) -> str:
    """A number of things."""
    return f"{number:,.0f}"


def percent(share: float) -> str:
    """A share of 1; below ten with a digit more."""
    value = 100 * share
    if 0 < value < 0.05:
        return "<0.1 %"
    return f"{value:.{1 if 0 < value < 9.95 else 0}f} %"
