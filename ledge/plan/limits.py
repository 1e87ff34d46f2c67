"""The limits of one job, as a plan states them and ledged sets them on the job's slice.

None is "no limit of ours": what HTCondor has set stays, and is never loosened. Sources:
Documentation/admin-guide/cgroup-v2.rst for every file named here.
"""

from __future__ import annotations


class Limits:
    """What a job may use.

    pids_max                        processes and threads (pids.max)
    memory_high_bytes               throttled above this, before HTCondor's memory.max kills
    memory_swap_max_bytes           swap space (memory.swap.max)
    cpu_max_cores                   CPU time per time, 1.5 being one core and a half (cpu.max)
    exclusive_cpus                  logical CPUs that no other job may use (cpuset.cpus)
    io_…_bytes_per_second           bandwidth at the disk of the scratch directory (io.max)
    io_…_operations_per_second      operations there (io.max)
    io_weight                       1 to 10000, the default being 100 (io.weight)
    """

    __slots__ = (
        "pids_max",
        "memory_high_bytes",
        "memory_swap_max_bytes",
        "cpu_max_cores",
        "exclusive_cpus",
        "io_read_bytes_per_second",
        "io_write_bytes_per_second",
        "io_read_operations_per_second",
        "io_write_operations_per_second",
        "io_weight",
    )

    def __init__(self) -> None:
        self.pids_max: int | None = None
        self.memory_high_bytes: int | None = None
        self.memory_swap_max_bytes: int | None = None
        self.cpu_max_cores: float | None = None
        self.exclusive_cpus: int | None = None
        self.io_read_bytes_per_second: int | None = None
        self.io_write_bytes_per_second: int | None = None
        self.io_read_operations_per_second: int | None = None
        self.io_write_operations_per_second: int | None = None
        self.io_weight: int | None = None

    def wanted(self) -> tuple[str, ...]:
        """The names of the limits that are set."""
        return tuple(name for name in self.__slots__ if getattr(self, name) is not None)
