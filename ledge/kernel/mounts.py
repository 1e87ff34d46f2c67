"""The mounts of a job's mount namespace, each a small operation: `describe()` and `execute()`.

Whoever executes one has CAP_SYS_ADMIN over the mount namespace it stands in: root, or anybody in
a user namespace of its own. A mount that came from a more privileged namespace cannot be taken
away there, only be covered (mount_namespaces(7), "Restrictions on mount namespaces").

No mount is made through a symbolic link: with root's launcher a link of the user's in the way could
put a directory of the user's over /etc, for set-uid programs to believe.
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
        _attach(sys.fsmount(filesystem, attributes), self.target)
        posix.close(filesystem)


class Tmpfs:
    """An empty tmpfs that everybody may write to; its pages are charged to who touches them.

    It is root's where root has an id there, and else of whoever mounts it.
    """

    __slots__ = ("target", "of_root")

    def __init__(self, target: bytes, of_root: bool) -> None:
        self.target = target
        self.of_root = of_root

    def describe(self) -> str:
        return f"mount a tmpfs at {_text(self.target)}"

    def execute(self) -> None:
        target = _open(self.target)
        flags = sys.MS_NOSUID | sys.MS_NODEV
        options = b"mode=1777,uid=0,gid=0" if self.of_root else b"mode=1777"
        sys.mount(b"tmpfs", b"/proc/self/fd/%d" % target, b"tmpfs", flags, options)
        posix.close(target)


class Kept:
    """A directory that stays visible: its name, and the path (perhaps of a descriptor) to it."""

    __slots__ = ("name", "source")

    def __init__(self, name: bytes, source: bytes) -> None:
        self.name = name
        self.source = source


class PrivateDirectory:
    """The directory `path` below the scratch directory, made if need be, at `target`.

    What the job needs of the old contents (`keep`: its scratch directory, say, where a personal
    HTCondor has its EXECUTE directory below /tmp) is seen in the new one too.

    The directory is the user's, who can exchange any part of `path` for a link between two steps:
    so it is reached once, without links, and then by its descriptor.
    """

    __slots__ = ("target", "scratch", "path", "keep")

    def __init__(
        self, target: bytes, scratch: Kept, path: bytes, keep: tuple[Kept, ...] = ()
    ) -> None:
        self.target = target
        self.scratch = scratch
        self.path = path
        self.keep = keep

    def describe(self) -> str:
        scratch = _text(self.scratch.name)
        return f"give the job its own {_text(self.target)} in its scratch directory {scratch}"

    def execute(self) -> None:
        flags = posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC
        scratch = posix.open(self.scratch.source, flags)
        backing = _make_path(scratch, self.path)
        name = b"/proc/self/fd/%d" % backing
        posix.chmod(name, 0o1777)
        for kept in self.keep:
            inside = _make_path(backing, kept.name[len(self.target) :])
            _attach_at(sys.open_tree(kept.source, recursive=True), inside)
        _attach(sys.open_tree(name, recursive=True), self.target)
        posix.close(backing)
        posix.close(scratch)


class Bind:
    """`source` seen at `target`, read-only if wished; the mounts below `source` stay behind."""

    __slots__ = ("source", "target", "read_only")

    def __init__(self, source: bytes, target: bytes, read_only: bool) -> None:
        self.source = source
        self.target = target
        self.read_only = read_only

    def describe(self) -> str:
        source, target = _text(self.source), _text(self.target)
        return f"mount {source} at {target}{' read-only' if self.read_only else ''}"

    def execute(self) -> None:
        tree = sys.open_tree(self.source, recursive=False)
        if self.read_only:
            sys.mount_setattr(tree, sys.MOUNT_ATTR_RDONLY)
        _attach(tree, self.target)


def _open(path: bytes) -> int:
    """The place of a mount, reached without a symbolic link (ELOOP)."""
    return sys.openat2(path, posix.O_PATH | posix.O_CLOEXEC, sys.RESOLVE_NO_SYMLINKS)


def _attach(mount: int, target: bytes) -> None:
    _attach_at(mount, _open(target))


def _attach_at(mount: int, place: int) -> None:
    sys.move_mount(mount, place)
    posix.close(mount)
    posix.close(place)


def _make_path(start: int, path: bytes) -> int:
    """Make the directories of `path` below `start` and open the last, following no links."""
    flags = posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
    fd = start
    for name in path.strip(b"/").split(b"/"):
        try:
            posix.mkdir(name, 0o700, dir_fd=fd)
        except FileExistsError:
            pass
        above, fd = fd, posix.open(name, flags, dir_fd=fd)
        if above != start:
            posix.close(above)
    return fd


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
