"""The mounts of a job's mount namespace, each a small operation: `describe()` and `execute()`.

Whoever executes one has CAP_SYS_ADMIN over the mount namespace it stands in: root, or anybody in
a user namespace of its own. A mount that came from a more privileged namespace cannot be taken
away there, only be covered (mount_namespaces(7), "Restrictions on mount namespaces").

No mount is made through a symbolic link: with root's launcher a link of the user's in the way could
put a directory of the user's over /etc, for set-uid programs to believe. What is mounted is reached
without one, too, so that it is what the plan names.
"""

from __future__ import annotations

import posix

from ledge.kernel import syscalls as sys

# sys/stat.h; the module stat costs every job some time
_S_IFMT, _S_IFDIR = 0o170000, 0o040000
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
        return f"mount the job's own control groups at {shown(self.target)}"

    def execute(self) -> None:
        filesystem = sys.fsopen(b"cgroup2")
        sys.fsconfig_create(filesystem)
        attributes = sys.MOUNT_ATTR_NOSUID | sys.MOUNT_ATTR_NODEV | sys.MOUNT_ATTR_NOEXEC
        attach(sys.fsmount(filesystem, attributes), self.target)
        posix.close(filesystem)


class Tmpfs:
    """An empty tmpfs that everybody may write to; its pages are charged to who touches them.

    It is root's where root has an id there, and else of whoever mounts it. Without `size_bytes` and
    `inodes` it may have half of the node's memory (tmpfs(5)); what is in `keep` shows through.
    """

    __slots__ = ("target", "of_root", "size_bytes", "inodes", "keep")

    def __init__(
        self,
        target: bytes,
        of_root: bool,
        size_bytes: int | None = None,
        inodes: int | None = None,
        keep: tuple[Kept, ...] = (),
    ) -> None:
        self.target = target
        self.of_root = of_root
        self.size_bytes = size_bytes
        self.inodes = inodes
        self.keep = keep

    def describe(self) -> str:
        return f"mount a tmpfs at {shown(self.target)}"

    def execute(self) -> None:
        options = b"mode=1777,uid=0,gid=0" if self.of_root else b"mode=1777"
        if self.size_bytes is not None:
            options += b",size=%d" % self.size_bytes
        if self.inodes is not None:
            options += b",nr_inodes=%d" % self.inodes
        posix.close(_cover(self.target, open_place(self.target), options, self.keep))


class Devpts:
    """Pseudo-terminals of the job's own: those of others cannot be opened, nor seen."""

    __slots__ = ("has_root", "target")

    def __init__(self, target: bytes, has_root: bool) -> None:
        self.target = target
        self.has_root = has_root

    def describe(self) -> str:
        return f"mount a fresh devpts at {shown(self.target)}"

    def execute(self) -> None:
        target = open_place(self.target)
        # The group tty is 5 wherever systemd is; in a user namespace it has no id.
        options = b"newinstance,ptmxmode=0666,mode=0620" + (b",gid=5" if self.has_root else b"")
        flags = sys.MS_NOSUID | sys.MS_NOEXEC
        sys.mount(b"devpts", b"/proc/self/fd/%d" % target, b"devpts", flags, options)
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
        scratch = shown(self.scratch.name)
        return f"give the job its own {shown(self.target)} in its scratch directory {scratch}"

    def execute(self) -> None:
        flags = posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC
        scratch = posix.open(self.scratch.source, flags)
        backing = make_path(scratch, self.path)
        name = b"/proc/self/fd/%d" % backing
        posix.chmod(name, 0o1777)
        for kept in self.keep:
            inside = make_path(backing, kept.name[len(self.target) :])
            _attach_at(sys.open_tree(kept.source, recursive=True), inside)
        attach(sys.open_tree(name, recursive=True), self.target)
        posix.close(backing)
        posix.close(scratch)


class Hidden:
    """Nothing at `target`, read-only; of what was there, only what is in `keep` shows through.

    A path that is not there, or that the user cannot reach, has nothing to hide.
    """

    __slots__ = ("keep", "target")

    def __init__(self, target: bytes, keep: tuple[Kept, ...] = ()) -> None:
        self.target = target
        self.keep = keep

    def describe(self) -> str:
        return f"hide {shown(self.target)}"

    def execute(self) -> None:
        try:
            place = open_place(self.target)
        except (FileNotFoundError, PermissionError):
            return
        if posix.fstat(place).st_mode & _S_IFMT != _S_IFDIR:
            _attach_at(sys.open_tree(b"/dev/null", recursive=False), place)
            return
        root = _cover(self.target, place, b"mode=0755,size=64k,nr_inodes=64", self.keep)
        sys.mount_setattr(root, sys.MOUNT_ATTR_RDONLY)
        posix.close(root)


class Bind:
    """`source` seen at `target`, read-only and without the rights of set-uid programs if wished.

    The mounts below `source` come along: what is hidden there stays hidden.
    """

    __slots__ = ("source", "target", "read_only", "nosuid")

    def __init__(self, source: bytes, target: bytes, read_only: bool, nosuid: bool = False) -> None:
        self.source = source
        self.target = target
        self.read_only = read_only
        self.nosuid = nosuid

    def describe(self) -> str:
        source, target = shown(self.source), shown(self.target)
        return f"mount {source} at {target}{' read-only' if self.read_only else ''}"

    def execute(self) -> None:
        source = open_place(self.source)
        tree = sys.open_tree(b"/proc/self/fd/%d" % source, recursive=True)
        posix.close(source)
        attributes = sys.MOUNT_ATTR_RDONLY if self.read_only else 0
        attributes |= sys.MOUNT_ATTR_NOSUID if self.nosuid else 0
        if attributes:
            sys.mount_setattr(tree, attributes, recursive=True)
        attach(tree, self.target)


def _cover(target: bytes, place: int, options: bytes, keep: tuple[Kept, ...]) -> int:
    """Mount a tmpfs at `place`, which is `target`, with `keep` in it; its root."""
    kept = [(one, sys.open_tree(one.source, recursive=True)) for one in keep]
    name = b"/proc/self/fd/%d" % place
    sys.mount(b"tmpfs", name, b"tmpfs", sys.MS_NOSUID | sys.MS_NODEV, options)
    posix.close(place)
    root = open_place(target)
    for one, tree in kept:
        _attach_at(tree, make_path(root, one.name[len(target) :]))
    return root


def open_place(path: bytes) -> int:
    """What is at a path, reached without a symbolic link (ELOOP)."""
    return sys.openat2(path, posix.O_PATH | posix.O_CLOEXEC, sys.RESOLVE_NO_SYMLINKS)


def attach(mount: int, target: bytes) -> None:
    _attach_at(mount, open_place(target))


def _attach_at(mount: int, place: int) -> None:
    sys.move_mount(mount, place)
    posix.close(mount)
    posix.close(place)


def make_path(start: int, path: bytes) -> int:
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


def shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
