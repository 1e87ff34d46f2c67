"""A job's usage: figures with names and units, and why others are missing.

No I/O. None is "not measured", never zero; `unmeasured` says why. What the kernel's files tell is
made figures of in ledge/usage/of_cgroup2.py and ledge/usage/of_cgroup1.py, what is known without
control groups in ledge/usage/of_processes.py.
"""

from __future__ import annotations

from ledge.job.logical_io import FIGURES, incompleteness

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ledge.job.logical_io import Told


class Usage:
    """Figures by name, each ending in its unit; a figure is None where it was not measured.

    `tracking` says how: "cgroup" or "cgroup1" (exact: every process, also those that escaped from
    the process tree), "processes" (what the kernel adds up of those that were waited for, and what
    was seen of all) or "none".
    `unmeasured` has the names by the reason; `incomplete` those of figures that are too low, by the
    reason; `sampled` those of figures that are not exact, by how they were come by. `oom_level` is
    the level whose limit killed (ledge/usage/of_cgroup2.py), `suggested_request_mib` what the job
    had better ask for where that was the slot's, `devices` the figures of each block device by its
    name.
    """

    __slots__ = (
        "tracking", "figures", "unmeasured", "incomplete", "sampled", "oom_level",
        "suggested_request_mib", "devices",
    )  # fmt: skip

    def __init__(self, tracking: str) -> None:
        self.tracking = tracking
        self.figures: dict[str, int | float | None] = {}
        self.unmeasured: dict[str, list[str]] = {}
        self.incomplete: dict[str, list[str]] = {}
        self.sampled: dict[str, list[str]] = {}
        self.oom_level: str | None = None
        self.suggested_request_mib: int | None = None
        self.devices: dict[str, dict[str, int]] = {}

    def miss(self, name: str, reason: str) -> None:
        """Note that a figure was not measured, and why."""
        self.figures[name] = None
        self.unmeasured.setdefault(reason, []).append(name)


def add_logical_io(usage: Usage, told: Told) -> None:
    """Add what init told; what is missing is told beside what is incomplete."""
    usage.figures.update(zip(FIGURES, told or (None, None)))
    reason = incompleteness(told)
    if reason is not None:
        usage.incomplete.setdefault(reason, []).extend(FIGURES)


def add_figures(usage: Usage, earlier: Mapping[str, int | float | None]) -> None:
    """Add the figures of earlier starts of the same job.

    Peaks are the highest of all starts, the rest are sums; what one start did not measure, the sum
    does not have either.
    """
    for name, value in usage.figures.items():
        if value is not None:
            _add(usage, name, value, earlier.get(name))


def _add(usage: Usage, name: str, value: int | float, earlier: int | float | None) -> None:
    if earlier is None:
        usage.miss(name, "not measured in every start of the job")
    else:
        usage.figures[name] = max(value, earlier) if "Peak" in name else value + earlier
