"""What a job inherits from the wrapper beside its ids: as if the wrapper had executed it.

All is read from the kernel about the wrapper, nothing is believed from its mouth. Sources:
proc(5), prlimit(2), sched(7), ioprio_set(2), capabilities(7), Documentation/admin-guide/LSM.
"""

from __future__ import annotations

import posix
import resource

from ledge.kernel import scheduling, syscalls

_LARGEST_FILE = 65536
_SECURITY_LABELS = ("attr/current", "attr/apparmor/current")


class Likeness:
    """What was read of a process; raises OSError, also when it is gone.

    `proc` is a descriptor of its directory in /proc, `pid` its PID here: whoever calls makes sure,
    afterwards, that the process still lives, so that the PID was not another's by then.
    """

    __slots__ = (
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

    def assume(self) -> None:
        """Take all over that needs root's rights, and what goes with it. Raises OSError."""
        for number, (soft, hard) in self.limits.items():
            _raise_limit(number, soft, hard)
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


def read_status(proc: int) -> dict[bytes, bytes]:
    """The lines of /proc/PID/status. Raises OSError."""
    status = {}
    for line in (read(proc, "status") or b"").splitlines():
        name, _, value = line.partition(b":")
        status[name] = value.strip()
    if not status:
        raise ProcessLookupError
    return status


def read(proc: int, name: str) -> bytes | None:
    """The text of a file of /proc/PID; None if this kernel has none. Raises OSError."""
    try:
        fd = posix.open(name, posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=proc)
    except FileNotFoundError:
        return None
    try:
        return posix.read(fd, _LARGEST_FILE).rstrip(b"\n\0")
    finally:
        posix.close(fd)


def read_own(name: str) -> bytes | None:
    """The text of a file of /proc/self."""
    proc = posix.open("/proc/self", posix.O_PATH | posix.O_CLOEXEC)
    try:
        return read(proc, name)
    finally:
        posix.close(proc)


def write_own(name: str, value: bytes) -> None:
    """Write a file of /proc/self. Raises OSError."""
    fd = posix.open(f"/proc/self/{name}", posix.O_WRONLY | posix.O_CLOEXEC)
    try:
        posix.write(fd, value)
    finally:
        posix.close(fd)


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
