"""From a plan to what is to be done on this node: namespaces, mounts, control group.

It looks which of /tmp and /var/tmp HTCondor has made private already, which directories the job
must go on seeing and whether we are root; and it makes the directory and the control group that the
job is going to have.
"""

from __future__ import annotations

import posix

from ledge.errors import IsolationError
from ledge.inheritance import Inheritance
from ledge.init import Launch
from ledge.kernel import mounts
from ledge.kernel.syscalls import CAP_SYS_ADMIN
from ledge.leaf import Leaf, make_leaf
from ledge.plan import Mount, Plan

PRIVATE = b".ledge"


def prepare(
    plan: Plan, inheritance: Inheritance, scratch: bytes, keep: tuple[bytes, ...] = ()
) -> Launch:
    """Make the job's control group and say what init has to do. Raises IsolationError.

    The scratch directory, the working directory and the directories of `keep` stay visible also
    where they are below a directory that becomes private.
    """
    operations = plan_operations(plan, scratch, (scratch, _working_directory(), *keep))
    namespaces = plan.namespaces
    if namespaces and not _may_administer():
        namespaces = ("user", *namespaces)
    # Last: from here on there is something to be removed again.
    leaf = _leaf() if plan.cgroup == "leaf" else None
    return Launch(inheritance, namespaces, operations, leaf)


def plan_operations(plan: Plan, scratch: bytes, keep: tuple[bytes, ...]) -> list[mounts.Operation]:
    """The mounts of the plan, in the order in which they have to be made. Raises IsolationError."""
    operations: list[mounts.Operation] = []
    if "mount" not in plan.namespaces:
        return operations
    operations.append(mounts.Slave())
    for mount in plan.mounts:
        operation = _operation(mount, scratch, keep)
        if operation is not None:
            operations.append(operation)
    if "ipc" in plan.namespaces and posix.access("/dev/mqueue", posix.X_OK):
        operations.append(mounts.Mqueue())
    if "pid" in plan.namespaces:
        operations.append(mounts.Proc())
    return operations


def _operation(mount: Mount, scratch: bytes, keep: tuple[bytes, ...]) -> mounts.Operation | None:
    target = _bytes(mount.target)
    if mount.kind == "tmpfs":
        return mounts.Tmpfs(target)
    if mount.kind == "bind":
        return mounts.Bind(_bytes(mount.source or ""), target, mount.read_only)
    # The starter's MOUNT_UNDER_SCRATCH keeps /tmp in the directory tmp of the scratch directory.
    if _same(scratch + target, target):
        return None
    backing = make_private_directory(scratch) + b"/" + target.strip(b"/").replace(b"/", b".")
    return mounts.PrivateDirectory(target, backing, _below(target, keep))


def _below(target: bytes, paths: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Those of `paths` below `target`, without those that another one of them contains."""
    found: list[bytes] = []
    for path in paths:
        inside = path.startswith(target + b"/")
        if inside and not any((path + b"/").startswith(other + b"/") for other in found):
            found.append(path)
    return tuple(found)


def make_private_directory(scratch: bytes) -> bytes:
    """The directory in the scratch directory that is ours: what the job sees at /tmp is in it."""
    path = scratch + b"/" + PRIVATE
    try:
        posix.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise IsolationError(
            f"cannot make {_text(path)} for the job's own /tmp: {error.strerror}",
            "the job's scratch directory must be there and its user's",
            error.errno or 0,
        ) from None
    return path


def _leaf() -> Leaf | None:
    try:
        return make_leaf()
    except OSError as error:
        raise IsolationError(
            f"cannot make a control group below the job's slice: {error.strerror}",
            "on_failure: run, or cgroup: none, in the plan lets jobs run without it",
            error.errno or 0,
        ) from None


def _may_administer() -> bool:
    """Whether we have CAP_SYS_ADMIN, and so need no user namespace (CapEff of proc(5))."""
    if posix.geteuid() != 0:
        return False
    with open("/proc/self/status", "rb", buffering=0) as file:
        _, _, rest = file.readall().partition(b"\nCapEff:\t")
    return bool(int(rest.partition(b"\n")[0], 16) >> CAP_SYS_ADMIN & 1)


def _working_directory() -> bytes:
    try:
        return posix.getcwdb()
    except OSError:
        return b""  # removed or unreachable: the job starts in it all the same


def _same(one: bytes, other: bytes) -> bool:
    try:
        a, b = posix.stat(one), posix.stat(other)
    except OSError:
        return False
    return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
