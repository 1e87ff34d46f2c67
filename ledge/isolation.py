"""From a plan to what is to be done on this node: namespaces, mounts, control group.

It looks which of /tmp and /var/tmp HTCondor has made private already, which directories the job
must go on seeing and whether we are root; and it makes the directory and the control group that the
job is going to have.
"""

from __future__ import annotations

import posix

from ledge.errors import StepFailed
from ledge.inheritance import Inheritance
from ledge.init import Launch
from ledge.kernel import mounts
from ledge.kernel.mounts import Kept
from ledge.kernel.syscalls import CAP_SYS_ADMIN
from ledge.leaf import Leaf, make_leaf
from ledge.plan import Mount, Plan

# The directory in the scratch directory that is ours: what the job sees at /tmp is in it.
PRIVATE = b".ledge"


def prepare(
    plan: Plan, inheritance: Inheritance, scratch: bytes, keep: tuple[bytes, ...] = ()
) -> Launch:
    """Make the job's control group and say what init has to do. Raises StepFailed.

    The scratch directory, the working directory and the directories of `keep` stay visible also
    where they are below a directory that becomes private.
    """
    kept = [Kept(name, name) for name in (scratch, _working_directory(), *keep)]
    namespaces = plan.namespaces
    if namespaces and not _may_administer():
        namespaces = ("user", *namespaces)
    operations = _operations(plan, kept[0], tuple(kept), "user" not in namespaces)
    return _launch(plan, inheritance, namespaces, operations, b"ledge-%d" % posix.getpid())


def prepare_launched(plan: Plan, inheritance: Inheritance, scratch: int, leaf: bytes) -> Launch:
    """The same for whom root has given the rights to do it as the user. Raises StepFailed.

    `scratch` is a descriptor that the wrapper handed over, and the working directory is the job's
    already: nothing is reached by a name that the user could have given another meaning.
    """
    source = b"/proc/self/fd/%d" % scratch
    kept = Kept(posix.readlink(source), source)
    keep = (kept, Kept(_working_directory(), b"/proc/self/cwd"))
    operations = _operations(plan, kept, keep, has_root=True)
    return _launch(plan, inheritance, plan.namespaces, operations, leaf)


def _launch(
    plan: Plan,
    inheritance: Inheritance,
    namespaces: tuple[str, ...],
    operations: list[mounts.Operation],
    leaf: bytes,
) -> Launch:
    # Last: from here on there is something to be removed again.
    group = _leaf(leaf) if plan.cgroup == "leaf" else None
    return Launch(inheritance, namespaces, operations, group)


def _operations(
    plan: Plan, scratch: Kept, keep: tuple[Kept, ...], has_root: bool
) -> list[mounts.Operation]:
    """The mounts of the plan, in the order in which they have to be made."""
    operations: list[mounts.Operation] = []
    if "mount" not in plan.namespaces:
        return operations
    operations.append(mounts.Slave())
    for mount in plan.mounts:
        operation = _operation(mount, scratch, keep, has_root)
        if operation is not None:
            operations.append(operation)
    if "ipc" in plan.namespaces and posix.access("/dev/mqueue", posix.X_OK):
        operations.append(mounts.Mqueue())
    if "pid" in plan.namespaces:
        operations.append(mounts.Proc())
    return operations


def _operation(
    mount: Mount, scratch: Kept, keep: tuple[Kept, ...], has_root: bool
) -> mounts.Operation | None:
    target = _bytes(mount.target)
    if mount.kind == "tmpfs":
        return mounts.Tmpfs(target, has_root)
    if mount.kind == "bind":
        return mounts.Bind(_bytes(mount.source or ""), target, mount.read_only)
    # The starter's MOUNT_UNDER_SCRATCH keeps /tmp in the directory tmp of the scratch directory.
    if _same(scratch.source + target, target):
        return None
    path = PRIVATE + b"/" + target.strip(b"/").replace(b"/", b".")
    return mounts.PrivateDirectory(target, scratch, path, _below(target, keep))


def _below(target: bytes, keep: tuple[Kept, ...]) -> tuple[Kept, ...]:
    """Those of `keep` below `target`, without those that another one of them contains."""
    found: list[Kept] = []
    for kept in keep:
        inside = kept.name.startswith(target + b"/")
        if inside and not any((kept.name + b"/").startswith(other.name + b"/") for other in found):
            found.append(kept)
    return tuple(found)


def _leaf(name: bytes) -> Leaf | None:
    try:
        return make_leaf(name)
    except OSError as error:
        step = "make a control group below the job's slice"
        raise StepFailed(step, error.errno or 0) from None


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
