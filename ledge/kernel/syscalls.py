"""Thin typed functions for the system calls that Python does not offer, under their kernel names.

Each raises OSError with the errno of the call. The C module `_ctypes` is used directly: the
package `ctypes` around it costs every job 2 ms of start-up and offers nothing that is needed
here. Calls younger than Linux 5.0 have one number on all architectures and go through
syscall(2); for the older ones libc has functions.
"""

from __future__ import annotations

import _ctypes
from errno import ENOSYS
from posix import O_CLOEXEC, O_NONBLOCK, strerror, uname
from sys import byteorder

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from collections.abc import Collection

# linux/sched.h
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_PARENT = 0x00008000
CLONE_INTO_CGROUP = 0x200000000

# linux/mount.h
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REC = 0x4000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MNT_DETACH = 0x2
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
OPEN_TREE_CLONE = 0x1
OPEN_TREE_CLOEXEC = 0x80000
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
MOUNT_ATTR_RDONLY = 0x1
FSOPEN_CLOEXEC = 0x1
FSMOUNT_CLOEXEC = 0x1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8

# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_DROP = 24
PR_SET_TIMERSLACK = 29
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

# linux/keyctl.h
KEYCTL_JOIN_SESSION_KEYRING = 1

# linux/landlock.h
LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET = 0x1

# linux/ptrace.h
PTRACE_TRACEME = 0

# linux/resource.h
RUSAGE_SELF = 0
RUSAGE_CHILDREN = -1
_RUSAGE_LONGS = 18  # struct rusage: two struct timeval, then 14 longs

# linux/capability.h
CAP_SYS_ADMIN = 21

AT_FDCWD = -100
RESOLVE_NO_SYMLINKS = 0x04

_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432
_SYS_CLONE3 = 435
_SYS_CLOSE_RANGE = 436
_SYS_OPENAT2 = 437
_SYS_MOUNT_SETATTR = 442
_SYS_LANDLOCK_CREATE_RULESET = 444
_SYS_LANDLOCK_RESTRICT_SELF = 446
# Older ones that libc has no functions for, with a number on each architecture: set and get.
_SYS_IOPRIO = {
    "x86_64": (251, 252),
    "aarch64": (30, 31),
    "riscv64": (30, 31),
    "ppc64le": (273, 274),
    "s390x": (282, 283),
}
_SYS_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_SYS_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "ppc64le": 271, "s390x": 280}
_IOPRIO_WHO_PROCESS = 1
_CAPABILITY_VERSION_3 = 0x20080522


class _Int(_ctypes._SimpleCData):  # type: ignore[type-arg]  # generic in the stubs alone
    _type_ = "i"


class _Long(_ctypes._SimpleCData):  # type: ignore[type-arg]  # generic in the stubs alone
    _type_ = "l"


class _Address(_ctypes._SimpleCData):  # type: ignore[type-arg]  # generic in the stubs alone
    _type_ = "P"


class _String(_ctypes._SimpleCData):  # type: ignore[type-arg]  # generic in the stubs alone
    _type_ = "z"


class _Function(_ctypes.CFuncPtr):
    # The GIL is kept over the call (PYTHONAPI): a child of clone3 need not take it anew.
    _flags_ = 0x1 | 0x4 | 0x8  # FUNCFLAG_CDECL | FUNCFLAG_PYTHONAPI | FUNCFLAG_USE_ERRNO
    # Half a register: of the other half a libc may leave nothing (umount2 of glibc 2.36).
    _restype_ = _Int


class _SystemCall(_Function):
    _flags_ = _Function._flags_
    _restype_ = _Long  # type: ignore[assignment]  # the stubs have the one above for its type


_libc = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]  # None: what is loaded already


def _function(name: str, arguments: int) -> _Function:
    function = _Function(_ctypes.dlsym(_libc, name))
    # A pointer-sized argument takes an int, the address of a bytes object, or None.
    function.argtypes = (_Address,) * arguments
    return function


_syscall = _SystemCall(_ctypes.dlsym(_libc, "syscall"))
_syscall.argtypes = (_Address,) * 7
_mount = _function("mount", 5)
_unshare = _function("unshare", 1)
_prctl = _function("prctl", 5)
_ptrace = _function("ptrace", 4)
_execve = _function("execve", 3)
_setns = _function("setns", 2)
_signalfd = _function("signalfd", 3)
_capset = _function("capset", 2)
_getrusage = _function("getrusage", 2)
_personality = _function("personality", 1)
_inotify_init1 = _function("inotify_init1", 1)
_inotify_add_watch = _function("inotify_add_watch", 3)
_inotify_rm_watch = _function("inotify_rm_watch", 2)


def _checked(result: int, filename: bytes | None = None) -> int:
    if result < 0:
        errno = _ctypes.get_errno()
        raise OSError(errno, strerror(errno), filename)
    return result


def _call(number: int, *arguments: int | bytes | None) -> int:
    padding = (0,) * (6 - len(arguments))
    return _checked(_syscall(number, *arguments, *padding))


def clone3(flags: int, exit_signal: int, cgroup: int = 0) -> int:
    """clone3(2) without a stack of its own, as fork(2): 0 in the child, its PID in the parent.

    With CLONE_INTO_CGROUP `cgroup` is a descriptor of a cgroup2 directory (Linux 5.7): the
    child is born there, which spares the wait of several milliseconds (an RCU grace period)
    that writing to cgroup.procs costs.
    """
    words = (flags, 0, 0, 0, exit_signal, 0, 0, 0, 0, 0, cgroup)
    clone_args = b"".join([word.to_bytes(8, byteorder) for word in words])
    return _call(_SYS_CLONE3, clone_args, len(clone_args))


def unshare(flags: int) -> None:
    """unshare(2)."""
    _checked(_unshare(flags))


def setns(fd: int, flags: int) -> None:
    """setns(2); of a pidfd, with all the namespaces of `flags` at once, since Linux 5.8."""
    _checked(_setns(fd, flags))


def openat2(path: bytes, flags: int, resolve: int) -> int:
    """openat2(2), Linux 5.6."""
    open_how = b"".join([word.to_bytes(8, byteorder) for word in (flags, 0, resolve)])
    return _call(_SYS_OPENAT2, AT_FDCWD, path, open_how, len(open_how))


def signalfd(signals: Collection[int]) -> int:
    """signalfd(2): a close-on-exec descriptor from which the signals, blocked, can be read."""
    bits = 0
    for signal in signals:
        bits |= 1 << (signal - 1)
    return _checked(_signalfd(-1, bits.to_bytes(8, byteorder) + bytes(120), O_CLOEXEC))


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) for the calling thread, each a bit set by capability number."""
    header = _CAPABILITY_VERSION_3.to_bytes(4, byteorder) + bytes(4)
    words = (
        (word >> shift) & 0xFFFFFFFF
        for shift in (0, 32)
        for word in (effective, permitted, inheritable)
    )
    _checked(_capset(header, b"".join([word.to_bytes(4, byteorder) for word in words])))


def getrusage(who: int) -> tuple[int, ...]:
    """getrusage(2): the 18 longs of struct rusage.

    The module resource has it too, for another file that every job would have to load.
    """
    longs = (_Long * _RUSAGE_LONGS)()
    _checked(_getrusage(who, _ctypes.addressof(longs)))
    return tuple([int(value) for value in longs])


def inotify_init() -> int:
    """inotify_init1(2): a close-on-exec descriptor that does not wait."""
    return _checked(_inotify_init1(O_CLOEXEC | O_NONBLOCK))


def inotify_add_watch(fd: int, path: bytes, mask: int) -> int:
    """inotify_add_watch(2): the watch, the same one for a file that is watched already."""
    return _checked(_inotify_add_watch(fd, path, mask), path)


def inotify_rm_watch(fd: int, watch: int) -> None:
    """inotify_rm_watch(2)."""
    _checked(_inotify_rm_watch(fd, watch))


def personality(persona: int) -> None:
    """personality(2)."""
    _checked(_personality(persona))


def ioprio_get(pid: int) -> int | None:
    """ioprio_get(2) of a process; None on an architecture whose number is not known here."""
    numbers = _SYS_IOPRIO.get(uname().machine)
    return None if numbers is None else _call(numbers[1], _IOPRIO_WHO_PROCESS, pid)


def ioprio_set(pid: int, priority: int) -> None:
    """ioprio_set(2) of a process."""
    _call(_SYS_IOPRIO[uname().machine][0], _IOPRIO_WHO_PROCESS, pid, priority)


def bpf(command: int, attributes: int, size: int) -> int:
    """bpf(2), with the address of a union bpf_attr (ledge/kernel/bpf.py fills it).

    ENOSYS too on an architecture whose number is not known here.
    """
    number = _SYS_BPF.get(uname().machine)
    if number is None:
        raise OSError(ENOSYS, strerror(ENOSYS))
    return _call(number, command, attributes, size)


def join_session_keyring() -> None:
    """keyctl(2) with KEYCTL_JOIN_SESSION_KEYRING and no name: a new one, empty and nobody else's.

    ENOSYS too on an architecture whose number is not known here.
    """
    number = _SYS_KEYCTL.get(uname().machine)
    if number is None:
        raise OSError(ENOSYS, strerror(ENOSYS))
    _call(number, KEYCTL_JOIN_SESSION_KEYRING, None)


def landlock_create_scope(scoped: int) -> int:
    """landlock_create_ruleset(2) of scopes alone: a descriptor. E2BIG before Linux 6.12."""
    attr = bytes(16) + scoped.to_bytes(8, byteorder)  # struct landlock_ruleset_attr
    return _call(_SYS_LANDLOCK_CREATE_RULESET, attr, len(attr), 0)


def landlock_restrict_self(ruleset: int) -> None:
    """landlock_restrict_self(2); wants no_new_privs or CAP_SYS_ADMIN."""
    _call(_SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0)


def mount(
    source: bytes, target: bytes, fstype: bytes | None, flags: int, data: bytes = b""
) -> None:
    """mount(2)."""
    _checked(_mount(source, target, fstype, flags, data), target)


def umount2(target: bytes, flags: int) -> None:
    """umount2(2); looked up here, for no job needs it."""
    _checked(_function("umount2", 2)(target, flags), target)


def fsopen(fstype: bytes) -> int:
    """fsopen(2), Linux 5.2: a descriptor of a file system yet to be configured."""
    return _call(_SYS_FSOPEN, fstype, FSOPEN_CLOEXEC)


def fsconfig_create(filesystem: int) -> None:
    """fsconfig(2) with FSCONFIG_CMD_CREATE: make the superblock."""
    _call(_SYS_FSCONFIG, filesystem, FSCONFIG_CMD_CREATE, None, None, 0)


def fsconfig_set(filesystem: int, key: bytes, value: bytes | None = None) -> None:
    """fsconfig(2) with FSCONFIG_SET_STRING, or FSCONFIG_SET_FLAG where there is no value."""
    command = FSCONFIG_SET_FLAG if value is None else FSCONFIG_SET_STRING
    _call(_SYS_FSCONFIG, filesystem, command, key, value, 0)


def fsmount(filesystem: int, attributes: int) -> int:
    """fsmount(2): a descriptor of a mount that is attached nowhere yet."""
    return _call(_SYS_FSMOUNT, filesystem, FSMOUNT_CLOEXEC, attributes)


def open_tree(path: bytes, recursive: bool) -> int:
    """open_tree(2) with OPEN_TREE_CLONE: a detached copy of the mount at a path, Linux 5.2."""
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (AT_RECURSIVE if recursive else 0)
    return _call(_SYS_OPEN_TREE, AT_FDCWD, path, flags)


def mount_setattr(mount_fd: int, attributes: int, recursive: bool = False) -> None:
    """mount_setattr(2), Linux 5.12: set attributes of the mount of a descriptor."""
    mount_attr = b"".join([word.to_bytes(8, byteorder) for word in (attributes, 0, 0, 0)])
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _call(_SYS_MOUNT_SETATTR, mount_fd, b"", flags, mount_attr, len(mount_attr))


def move_mount(mount_fd: int, target: int) -> None:
    """move_mount(2): attach the mount of one descriptor at the place of another."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    _call(_SYS_MOVE_MOUNT, mount_fd, b"", target, b"", flags)


def close_range(first: int, last: int) -> None:
    """close_range(2), Linux 5.9."""
    _call(_SYS_CLOSE_RANGE, first, last, 0)


def prctl(option: int, argument: int | bytes, further: int | bytes = 0) -> None:
    """prctl(2) of one argument or two."""
    _checked(_prctl(option, argument, further, 0, 0))


def ptrace_traceme() -> None:
    """ptrace(2) with PTRACE_TRACEME: the next execve stops before its first instruction."""
    _checked(_ptrace(PTRACE_TRACEME, 0, 0, 0))


def _vector(strings: list[bytes]) -> _ctypes.Array[_String]:
    array = (_String * (len(strings) + 1))()
    for index, string in enumerate(strings):
        array[index] = string
    return array


def execve(path: bytes, argv: list[bytes], environ: list[bytes]) -> None:
    """execve(2) with the very strings given: os.execve would drop a name that stands twice."""
    arguments, environment = _vector(argv), _vector(environ)
    _checked(_execve(path, _ctypes.addressof(arguments), _ctypes.addressof(environment)), path)
