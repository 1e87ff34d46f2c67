"""Adding up the starts of a self-checkpointing job.

After each checkpoint the starter starts the job anew within the same execution, and so the wrapper,
and a control group whose figures begin at zero (HTCondor manual, "Self-Checkpointing
Applications"). HTCondor's own figures add such starts up; these do as well. The sum so far is kept
in the scratch directory, which the starts share.
"""

from __future__ import annotations

import posix

from ledge.job.isolation import PRIVATE
from ledge.usage.usage import Usage, add_figures

_LARGEST_FILE = 65536
_LARGEST_FIGURE = 1 << 63
# The job may have put something else there: a FIFO would keep us from ever ending.
_FLAGS = posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC


def add_earlier_starts(usage: Usage, scratch: bytes) -> None:
    """Add what earlier starts used to `usage`, and keep the sum for the next."""
    path = scratch + b"/" + PRIVATE + b"/usage"
    earlier = _read(path)
    if earlier is not None:
        add_figures(usage, earlier)
    try:
        _make_directory(scratch + b"/" + PRIVATE)
        _write(path, usage)
    except OSError as error:
        usage.miss("the next start's sums", f"cannot write in the scratch directory: {error}")


def _make_directory(path: bytes) -> None:
    try:
        posix.mkdir(path, 0o700)
    except FileExistsError:
        pass


def _write(path: bytes, usage: Usage) -> None:
    lines = [f"{name} {value}\n" for name, value in usage.figures.items() if value is not None]
    fd = posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | _FLAGS, 0o600)
    try:
        posix.write(fd, "".join(lines).encode())
    finally:
        posix.close(fd)


def _read(path: bytes) -> dict[str, int | float] | None:
    """The figures of earlier starts, without those that the job spoilt; None before the first."""
    try:
        fd = posix.open(path, posix.O_RDONLY | _FLAGS)
    except FileNotFoundError:
        return None
    except OSError:
        return {}
    try:
        text = posix.read(fd, _LARGEST_FILE).decode("ascii", "replace")
    finally:
        posix.close(fd)
    figures: dict[str, int | float] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        try:
            figure = int(value) if value.isdigit() else float(value)
        except ValueError:
            continue
        if 0 <= figure < _LARGEST_FIGURE:  # and neither infinite nor no number
            figures[name] = figure
    return figures
