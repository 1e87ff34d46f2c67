"""A job's usage: figures with names and units, and why others are missing.

No I/O. None is "not measured", never zero; `unmeasured` says why. What the kernel's files tell is
made figures of in ledge/usage_of_cgroup2.py and ledge/usage_of_cgroup1.py.
"""

from __future__ import annotations

from ledge.logical_io import FIGURES, incompleteness

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from ledge.logical_io import Told


class Usage:
    """Figures by name, each ending in its unit; a figure is None where it was not measured.

    `tracking` says how: "cgroup" or "cgroup1" (exact: every process, also those that escaped from
    the process tree), "processes" (CPU time of the processes that were waited for) or "none".
    `unmeasured` has the names by the reason; `incomplete` those of figures that are too low, by the
    reason; `sampled` those of figures that are not exact, by how they were come by. `oom_level` is
    the level whose limit killed (ledge/usage_of_cgroup2.py), `devices` the figures of each block
    device by its name.
    """

    __slots__ = (
        "tracking", "figures", "unmeasured", "incomplete", "sampled", "oom_level", "devices",
    )  # fmt: skip

    def __init__(self, tracking: str) -> None:
        self.tracking = tracking
        self.figures: dict[str, int | float | None] = {}
        self.unmeasured: dict[str, list[str]] = {}
        self.incomplete: dict[str, list[str]] = {}
        self.sampled: dict[str, list[str]] = {}
        self.oom_level: str | None = None
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
        usage.incomplete[reason] = list(FIGURES)


def usage_of_processes(cpu_seconds: tuple[float, float]) -> Usage:
    """The usage that wait4(2) tells where there is no control group: CPU time and no more."""
    usage = Usage("processes")
    usage.figures["CpuUserSeconds"], usage.figures["CpuSystemSeconds"] = cpu_seconds
    usage.miss("all else", "the job had no control group of its own")
    return usage
