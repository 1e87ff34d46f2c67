"""What the kernel adds up of all processes that were waited for, where no control group counts.

Init waits for every process of the job that nobody else did, and so has the sums in the end
(wait_task_zombie() in kernel/exit.c, getrusage(2) with RUSAGE_CHILDREN). They are exact for what
they count. A process whose parent ignores SIGCHLD is waited for by nobody, and is in no sum.
"""

from __future__ import annotations

from ledge.kernel.syscalls import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from ledge.job.logical_io import LogicalIo

    # In the order of FIELDS; those of storage are missing where the kernel keeps no account.
    Sums = tuple[int, ...]

FIELDS = (
    "user_usec",
    "system_usec",
    "largest_kib",
    "minor_faults",
    "major_faults",
    "storage_read_bytes",
    "storage_written_bytes",
)
# A copy of init grows a little on its way to execve(2), whose memory counts as the job's.
_OWN_GROWTH = 1.2


def sums(account: LogicalIo) -> Sums:
    """The sums by now, of the calling process's children and all that they waited for.

    `largest_kib` is no sum: the most memory that one of the processes had in RAM at any time; 0 if
    that can have been init's own, before it became the job.
    """
    usage = getrusage(RUSAGE_CHILDREN)
    seconds, microseconds = usage[0:4:2], usage[1:4:2]
    user, system = [s * 1000000 + us for s, us in zip(seconds, microseconds)]
    largest, minor, major = usage[4], usage[8], usage[9]
    if largest <= getrusage(RUSAGE_SELF)[4] * _OWN_GROWTH:
        largest = 0
    return (user, system, largest, minor, major, *(account.storage() or ()))
