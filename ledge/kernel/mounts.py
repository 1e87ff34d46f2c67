"""The mounts of a job's mount namespace, each a small operation: `describe()` and `execute()`.

Whoever executes one has CAP_SYS_ADMIN over the mount namespace it stands in: root, or anybody in
a user namespace of its own. A mount that came from a more privileged namespace cannot be taken
away there, only be covered (mount_namespaces(7), "Restrictions on mount namespaces").
"""

from __future__ import annotations

import posix

from ledge.kernel import syscalls as sys

_HARMLESS = sys.MS_NOSUID | sys.MS_NODEV | sys.MS_NOEXEC


TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from typing import Protocol

    class Operation(Protocol):
        """One step."""

        def describe(self) -> str:
            """Say what the step does, as the end of "cannot …"."""

        def execute(self) -> None:
            """Carry it out. Raises OSError."""


class Slave:
    """Let the node's later mounts (automounts, CVMFS) into the job, and none of the job's out."""

    __slots__ = ()

    def describe(self) -> str:
        return "make the mounts of the job slaves of the node's"

    def execute(self) -> None:
        sys.mount(b"none", b"/", None, sys.MS_REC | sys.MS_SLAVE)


class Proc:
    """A /proc that shows the PID namespace of whoever mounts it."""

    __slots__ = ()

    def describe(self) -> str:
        return "mount a fresh /proc"

    def execute(self) -> None:
        sys.mount(b"proc", b"/proc", b"proc", _HARMLESS)


class Mqueue:
    """The POSIX message queues of the IPC namespace of whoever mounts it, at /dev/mqueue."""

    __slots__ = ()

    def describe(self) -> str:
        return "mount a fresh /dev/mqueue"

    def execute(self) -> None:
        sys.mount(b"mqueue", b"/dev/mqueue", b"mqueue", _HARMLESS)


class Cgroup2:
    """The cgroup2 tree as the cgroup namespace of whoever mounts it shows it.

    mount(2) refuses to put cgroup2 directly over itself (EBUSY); a detached mount may be moved
    there (Linux 5.2).
    """

    __slots__ = ("target",)

    def __init__(self, target: bytes) -> None:
        self.target = target

    def describe(self) -> str:
        return f"mount the job's own control groups at {_text(self.target)}"

    def execute(self) -> None:
        filesystem = sys.fsopen(b"cgroup2")
        sys.fsconfig_create(filesystem)
        attributes = sys.MOUNT_ATTR_NOSUID | sys.MOUNT_ATTR_NODEV | sys.MOUNT_ATTR_NOEXEC
        mount = sys.fsmount(filesystem, attributes)
        sys.move_mount(mount, self.target)
        posix.close(mount)
        posix.close(filesystem)


class Tmpfs:
    """An empty tmpfs that everybody may write to; its pages are charged to who touches them."""

    __slots__ = ("target",)

    def __init__(self, target: bytes) -> None:
        self.target = target

    def describe(self) -> str:
        return f"mount a tmpfs at {_text(self.target)}"

    def execute(self) -> None:
        sys.mount(b"tmpfs", self.target, b"tmpfs", sys.MS_NOSUID | sys.MS_NODEV, b"mode=1777")


class PrivateDirectory:
    """The directory `backing`, made if need be in a directory that is there, at `target`.

    What the job needs of the old contents (`keep`: its scratch directory, say, where a personal
    HTCondor has its EXECUTE directory below /tmp) is seen in the new one too.
    """

    __slots__ = ("target", "backing", "keep")

    def __init__(self, target: bytes, backing: bytes, keep: tuple[bytes, ...] = ()) -> None:
        self.target = target
        self.backing = backing
        self.keep = keep

    def describe(self) -> str:
        return f"give the job its own {_text(self.target)}"

    def execute(self) -> None:
        _make_directory(self.backing)
        posix.chmod(self.backing, 0o1777)
        for path in self.keep:
            inside = self.backing
            for name in path[len(self.target) :].strip(b"/").split(b"/"):
                inside += b"/" + name
                _make_directory(inside)
            sys.mount(path, inside, None, sys.MS_BIND | sys.MS_REC)
        sys.mount(self.backing, self.target, None, sys.MS_BIND | sys.MS_REC)


class Bind:
    """`source` seen at `target`, read-only if wished; the mounts below `source` stay behind.

    A read-only remount must repeat the flags that a more privileged namespace has locked.
    """

    __slots__ = ("source", "target", "read_only")

    def __init__(self, source: bytes, target: bytes, read_only: bool) -> None:
        self.source = source
        self.target = target
        self.read_only = read_only

    def describe(self) -> str:
        source, target = _text(self.source), _text(self.target)
        return f"mount {source} at {target}{' read-only' if self.read_only else ''}"

    def execute(self) -> None:
        sys.mount(self.source, self.target, None, sys.MS_BIND)
        if self.read_only:
            # statvfs gives ST_NOSUID, ST_NODEV and ST_NOEXEC the values that mount(2) gives them.
            locked = posix.statvfs(self.target).f_flag & _HARMLESS
            flags = sys.MS_REMOUNT | sys.MS_BIND | sys.MS_RDONLY | locked
            sys.mount(b"none", self.target, None, flags)


def _make_directory(path: bytes) -> None:
    try:
        posix.mkdir(path, 0o700)
    except FileExistsError:
        pass


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
