"""Control groups of version 2: finding one's own, making a job's, reading its figures.

Source: Documentation/admin-guide/cgroup-v2.rst. Every file is opened below a directory
descriptor that this module holds, never by a path that somebody else could have moved.
A file that is not there (an older kernel, a controller that is off) reads as None: absent is not
zero. A file with contents that make no sense raises ValueError naming it and the value.
"""

from __future__ import annotations

import posix
from errno import EBUSY, ENODEV, ENOENT, ENOTEMPTY, EOPNOTSUPP
from time import sleep

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from collections.abc import Iterator

_DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
# A large buffer costs more than the reading of a small file: 15 µs against 1.
_USUAL_FILE = 1 << 16
_LARGEST_FILE = 1 << 20


def own_path(proc_self_cgroup: bytes) -> bytes | None:
    """One's own path in the hierarchy of version 2, from the text of /proc/self/cgroup."""
    for line in proc_self_cgroup.splitlines():
        if line.startswith(b"0::"):
            return line[3:]
    return None


def mount_point(mountinfo: bytes) -> bytes | None:
    """Where cgroup2 is mounted, from the text of /proc/self/mountinfo (proc(5))."""
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(b" - ")
        if rest.startswith(b"cgroup2 "):
            return unescaped(fields.split(b" ")[4])
    return None


def unescaped(path: bytes) -> bytes:
    """A path of /proc/self/mountinfo, in which some characters stand as octal escapes."""
    for escape, character in ((b"040", b" "), (b"011", b"\t"), (b"012", b"\n"), (b"134", b"\\")):
        path = path.replace(b"\\" + escape, character)
    return path


class Cgroup:
    """One control group, known by a descriptor of its directory."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def open(cls, path: bytes, below: int | None = None) -> Cgroup:
        """Raises OSError."""
        return cls(posix.open(path, _DIRECTORY, dir_fd=below))

    def make(self, name: bytes) -> Cgroup:
        """Make a child and open it. Raises OSError: EACCES where the group is not delegated."""
        posix.mkdir(name, 0o755, dir_fd=self.fd)
        return self.open(name, self.fd)

    def write(self, name: str, value: bytes) -> None:
        """Write one control file. Raises OSError.

        Without O_NONBLOCK, lowering memory.high waits until the group has become smaller.
        """
        flags = posix.O_WRONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC | posix.O_NONBLOCK
        fd = posix.open(name, flags, dir_fd=self.fd)
        try:
            posix.write(fd, value)
        finally:
            posix.close(fd)

    def read(self, name: str) -> bytes | None:
        """The text of one control file; None if this kernel or this group has no such file."""
        try:
            fd = posix.open(
                name, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=self.fd
            )
        except FileNotFoundError:
            return None
        try:
            return text_of(fd)
        except OSError as error:
            # A controller or pressure accounting that is switched off says so only here.
            if error.errno in (ENODEV, EOPNOTSUPP, ENOENT):
                return None
            raise
        finally:
            posix.close(fd)

    def enable_controllers_of(self, parent: Cgroup, patience_seconds: float = 2.0) -> None:
        """Give the children of this group the controllers that the children of `parent` have.

        Nobody may live in this group. A process that was in it and has been reaped can still be
        on its way out of it (from Linux 6.19 on it leaves only when it is switched away from), so
        EBUSY is tried again for a while. Raises OSError.
        """
        names = (parent.read("cgroup.subtree_control") or b"").split()
        value = b" ".join([b"+" + name for name in names])
        for pause in _pauses(patience_seconds) if names else ():
            try:
                self.write("cgroup.subtree_control", value)
                return
            except OSError as error:
                if error.errno != EBUSY or pause is None:
                    raise
            sleep(pause)

    def kill(self) -> None:
        """Kill every process in the group and below it (cgroup.kill, Linux 5.14)."""
        self.write("cgroup.kill", b"1")

    def empty(self, patience_seconds: float = 2.0) -> None:
        """Kill whoever is in the group or below it, and wait until nobody is. Raises OSError."""
        for pause in _pauses(patience_seconds):
            if not self.populated() or pause is None:
                return
            self.kill()
            sleep(pause)

    def populated(self) -> bool:
        """Whether a process lives in the group or below it."""
        return parse_flat_keyed(self.read("cgroup.events"), "cgroup.events").get(b"populated") != 0

    def remove(self, name: bytes, patience_seconds: float = 1.0) -> bool:
        """Remove the child `name` and all below it; False if it is still in use after a while.

        A process that has just been reaped can keep its group busy for some milliseconds.
        """
        for pause in _pauses(patience_seconds):
            try:
                _remove_tree(name, self.fd)
                return True
            except FileNotFoundError:
                return True
            except OSError as error:
                if error.errno not in (EBUSY, ENOTEMPTY) or pause is None:
                    return False
            sleep(pause)
        return False

    def close(self) -> None:
        """Close the descriptor."""
        posix.close(self.fd)


def _pauses(patience_seconds: float) -> Iterator[float | None]:
    """The seconds to wait after each failure; None after the last one."""
    waited, pause = 0.0, 0.0005
    while waited < patience_seconds:
        yield pause
        waited += pause
        pause = min(pause * 2, 0.05)
    yield None


def _remove_tree(name: bytes | str, below: int) -> None:
    try:
        posix.rmdir(name, dir_fd=below)
        return
    except OSError as error:
        if error.errno not in (EBUSY, ENOTEMPTY):
            raise
    # A job may have taken its own rights away from a group that it made; there are no links here.
    try:
        posix.chmod(name, 0o700, dir_fd=below)
    except PermissionError:
        pass  # ledged is not the owner, and needs no rights to look inside
    fd = posix.open(name, _DIRECTORY, dir_fd=below)
    try:
        with posix.scandir(fd) as entries:
            children = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        for child in children:
            _remove_tree(child, fd)
    finally:
        posix.close(fd)
    posix.rmdir(name, dir_fd=below)


def text_of(fd: int) -> bytes:
    """The text of an open control file as it is now. Raises OSError.

    The kernel makes it anew for whoever reads from the beginning, and gives what fits.
    """
    text = posix.pread(fd, _USUAL_FILE, 0)
    return text if len(text) < _USUAL_FILE else posix.pread(fd, _LARGEST_FILE, 0)


def parse_single(text: bytes | None, name: str) -> int | None:
    """The number of a file that holds one; None for an absent file and for "max"."""
    if text is None or text.strip() == b"max":
        return None
    return _number(text.strip(), name)


def parse_flat_keyed(text: bytes | None, name: str) -> dict[bytes, int]:
    """The lines "KEY VALUE" of cpu.stat, memory.events and their like; empty if absent."""
    figures: dict[bytes, int] = {}
    for line in (text or b"").splitlines():
        key, _, value = line.partition(b" ")
        figures[key] = _number(value, name)
    return figures


def parse_nested_keyed(text: bytes | None, name: str) -> dict[bytes, dict[bytes, int]] | None:
    """The lines "KEY SUB=VALUE SUB=VALUE …" of io.stat; None if absent.

    A sub-value that is no whole number is left out: io.stat has some where io.cost is on.
    """
    if text is None:
        return None
    figures: dict[bytes, dict[bytes, int]] = {}
    for line in text.splitlines():
        if not line.strip():
            raise ValueError(f"{name}: expected MAJOR:MINOR, not a blank line")
        key, *pairs = line.split()
        entry = figures.setdefault(key, {})
        for pair in pairs:
            sub, equals, value = pair.partition(b"=")
            if not equals:
                raise ValueError(f"{name}: expected KEY=VALUE, not {pair!r:.80}")
            if value.isdigit():
                entry[sub] = int(value)
    return figures


def parse_pressure(text: bytes | None, name: str) -> dict[bytes, int]:
    """The stall times (microseconds) of a pressure file by "some" and "full"; empty if absent.

    Source: Documentation/accounting/psi.rst.
    """
    totals: dict[bytes, int] = {}
    for line in (text or b"").splitlines():
        kind, _, rest = line.partition(b" ")
        _, found, total = rest.partition(b"total=")
        if not found:
            raise ValueError(f"{name}: expected total=, not {rest!r:.80}")
        totals[kind] = _number(total, name)
    return totals


def _number(value: bytes, name: str) -> int:
    if not value.isdigit():
        raise ValueError(f"{name}: expected a number, not {value!r:.80}")
    return int(value)
