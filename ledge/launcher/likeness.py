"""What a job inherits from the wrapper beside its ids: as if the wrapper had executed it.

All is read from the kernel about the wrapper, nothing is believed from its mouth. Sources:
proc(5), prlimit(2), sched(7), ioprio_set(2), capabilities(7), Documentation/admin-guide/LSM.
"""

from __future__ import annotations

import posix
import resource

from ledge.kernel import scheduling, syscalls
from ledge.kernel.proc import read, read_own, read_status, write_own

# Of /proc/PID/status: who a process is and what it may do.
_RIGHTS = (
    b"Uid",
    b"Gid",
    b"Groups",
    b"CapInh",
    b"CapPrm",
    b"CapBnd",
    b"CapAmb",
    b"NoNewPrivs",
    b"Seccomp",
)
_NO_CAPABILITY = (b"CapInh", b"CapPrm", b"CapAmb")
_SECURITY_LABELS = ("attr/current", "attr/apparmor/current")


class Likeness:
    """What was read of a process; raises OSError, also when it is gone.

    `proc` is a descriptor of its directory in /proc, `pid` its PID here: whoever calls makes sure,
    afterwards, that the process still lives, so that the PID was not another's by then.
    """

    __slots__ = (
        "rights",
        "uid",
        "gid",
        "groups",
        "no_new_privileges",
        "bounding",
        "ignored",
        "limits",
        "scheduling",
        "files",
        "persona",
        "label",
    )

    def __init__(self, proc: int, pid: int) -> None:
        status = read_status(proc)
        self.rights = rights(proc, status)
        self.uid = int(status[b"Uid"].split()[0])
        self.gid = int(status[b"Gid"].split()[0])
        self.groups = [int(group) for group in status[b"Groups"].split()]
        self.no_new_privileges = status[b"NoNewPrivs"] == b"1"
        self.bounding = int(status[b"CapBnd"], 16)
        self.ignored = int(status[b"SigIgn"], 16)
        self.limits = parse_limits(read(proc, "limits") or b"")
        self.scheduling = scheduling.of(pid)
        self.files = {name: read(proc, name) for name in WRITTEN}
        self.persona = int(read(proc, "personality") or b"0", 16)
        self.label = _foreign_label(proc)

    def still_holds(self, proc: int) -> bool:
        """Whether the process has the very rights that it had. Raises OSError.

        What it has entered meanwhile (another user namespace, a system call filter) it cannot leave
        again: so what was looked at before this call belonged to a process with these rights.
        """
        return rights(proc, read_status(proc)) == self.rights

    def assume(self) -> None:
        """Take all over that needs root's rights, and what goes with it. Raises OSError."""
        for number, (soft, hard) in self.limits.items():
            _raise_limit(number, soft, hard)
        # The job's descriptors may have any number below the limit, and ours are kept above them.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        _raise_limit(resource.RLIMIT_NOFILE, most, most)
        self.scheduling.assume()
        for name, value in self.files.items():
            if value is not None and value != read_own(name):
                # The one file of these that is hexadecimal does not say so.
                write_own(name, b"0x" + value if name == "coredump_filter" else value)
        syscalls.personality(self.persona)
        for capability in _bits(_own_bounding() & ~self.bounding):
            syscalls.prctl(syscalls.PR_CAPBSET_DROP, capability)

    def assume_last(self) -> None:
        """In the job, before it is executed: what would hinder us before. Raises OSError."""
        if self.no_new_privileges:
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        if self.label is not None:
            write_own(self.label[0], self.label[1])
        for number, limits in self.limits.items():
            resource.setrlimit(number, limits)


# The files of /proc/PID that can be written for oneself.
WRITTEN = ("oom_score_adj", "coredump_filter", "timerslack_ns", "loginuid")


def rights(proc: int, status: dict[bytes, bytes]) -> tuple[object, ...]:
    """Who a process is and what it may do, to be compared. Raises OSError."""
    return user_namespace(proc), *[status.get(name) for name in _RIGHTS]


def user_namespace(proc: int) -> tuple[int, int]:
    """The identity of the user namespace of a process. Raises OSError."""
    found = posix.stat("ns/user", dir_fd=proc)
    return found.st_dev, found.st_ino


def objection(proc: int, uid: int) -> str:
    """Why no job may be launched in the likeness of a process; empty if one may. Raises OSError.

    Nobody is to get out of anything by being launched: whoever has less than a job is refused.
    """
    own = posix.open("/proc/self", posix.O_PATH | posix.O_CLOEXEC)
    try:
        if user_namespace(proc) != user_namespace(own):
            return "a process in a user namespace, which a job would escape"
    finally:
        posix.close(own)
    status = read_status(proc)
    if set(status[b"Uid"].split()) != {b"%d" % uid} or len(set(status[b"Gid"].split())) != 1:
        return "a process in the middle of changing its user"
    if uid == 0:
        return "a process of root's: its jobs are left as HTCondor starts them"
    for name in _NO_CAPABILITY:
        if int(status.get(name, b"0"), 16):
            return f"a process with capabilities of its own ({name.decode()})"
    if status.get(b"Seccomp", b"0") != b"0":
        return "a process with a system call filter, which a job would escape"
    return ""


def parse_limits(text: bytes) -> dict[int, tuple[int, int]]:
    """Soft and hard limit by number, from /proc/PID/limits, which has them in that order.

    prlimit(2) would want CAP_SYS_RESOURCE for the same. Raises ValueError for another text.
    """
    limits = {}
    for number, line in enumerate(text.splitlines()[1:]):
        soft, hard = line[26:46].strip(), line[47:67].strip()
        limits[number] = (_limit(soft), _limit(hard))
    return limits


def _limit(text: bytes) -> int:
    return resource.RLIM_INFINITY if text == b"unlimited" else int(text)


def _raise_limit(number: int, soft: int, hard: int) -> None:
    """Make room for what the job is to have; lowering comes last, and needs no rights."""
    own_soft, own_hard = resource.getrlimit(number)
    raised = (_higher(own_soft, soft), _higher(own_hard, hard))
    if raised != (own_soft, own_hard):
        resource.setrlimit(number, raised)


def _higher(one: int, other: int) -> int:
    if resource.RLIM_INFINITY in (one, other):
        return resource.RLIM_INFINITY
    return max(one, other)


def _foreign_label(proc: int) -> tuple[str, bytes] | None:
    """The file to write for the wrapper's SELinux or AppArmor context, and the context.

    None if ours is the same, or there are no such modules.
    """
    for name in _SECURITY_LABELS:
        try:
            label, own = read(proc, name), read_own(name)
        except OSError:
            continue  # no such security module
        if label is not None and label != own:
            execution = name.replace("current", "exec")
            if name.startswith("attr/apparmor"):
                return execution, b"exec " + label.partition(b" (")[0]
            return execution, label
    return None


def _own_bounding() -> int:
    own = posix.open("/proc/self", posix.O_PATH | posix.O_CLOEXEC)
    try:
        return int(read_status(own)[b"CapBnd"], 16)
    finally:
        posix.close(own)


def _bits(mask: int) -> list[int]:
    return [bit for bit in range(64) if mask >> bit & 1]
