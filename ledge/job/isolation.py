"""From a plan to what is to be done on this node: namespaces, mounts, control group.

It looks which of /tmp and /var/tmp HTCondor has made private already, which directories the job
must go on seeing and whether we are root; and it makes the directory and the control group that the
job is going to have.
"""

from __future__ import annotations

import posix
from errno import EOPNOTSUPP

from ledge.errors import StepFailed
from ledge.job.inheritance import Inheritance
from ledge.job.init import Launch
from ledge.job.leaf import Leaf, make_leaf
from ledge.kernel import confinement, mounts
from ledge.kernel.mounts import Kept
from ledge.kernel.syscalls import CAP_SYS_ADMIN
from ledge.plan.plan import EXECUTE, Mount, Plan

# The directory in the scratch directory that is ours: what the job sees at /tmp is in it.
PRIVATE = b".ledge"
# HTCondor's name of a job's directory in EXECUTE.
_JOB_DIRECTORY = b"dir_"


def prepare(
    plan: Plan, inheritance: Inheritance, scratch: bytes, keep: tuple[bytes, ...] = ()
) -> Launch:
    """Make the job's control group and say what init has to do. Raises StepFailed.

    The scratch directory, the working directory and the directories of `keep` stay visible also
    where they are below a directory that becomes private.
    """
    kept = [Kept(name, name) for name in (scratch, _working_directory(), *keep)]
    namespaces = plan.namespaces
    if plan.network == "private":
        raise StepFailed("give the job a network of its own", EOPNOTSUPP)
    if plan.network == "none":
        namespaces = (*namespaces, "network")
    if namespaces and not _may_administer():
        namespaces = ("user", *namespaces)
    has_root = "user" not in namespaces
    operations = _operations(plan, kept[0], tuple(kept), has_root, scratch)
    launch = _launch(plan, inheritance, namespaces, operations, b"ledge-%d" % posix.getpid())
    if plan.keyring == "own":
        launch.confinement.append(confinement.SessionKeyring())
    return launch


def prepare_launched(
    plan: Plan,
    inheritance: Inheritance,
    scratch: int,
    execute: bytes,
    leaf: bytes,
    user_namespace: int | None = None,
) -> Launch:
    """The same for whom root has given the rights to do it as the user. Raises StepFailed.

    `scratch` is a descriptor that the wrapper handed over, and the working directory is the job's
    already: nothing is reached by a name that the user could have given another meaning. `execute`
    is where the starter stands, in the job's directory in EXECUTE; overlays are mounted from
    `user_namespace`.
    """
    source = b"/proc/self/fd/%d" % scratch
    kept = Kept(posix.readlink(source), source)
    keep = (kept, Kept(_working_directory(), b"/proc/self/cwd"))
    operations = _operations(plan, kept, keep, True, execute, user_namespace)
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
    launch = Launch(inheritance, namespaces, operations, group)
    launch.mounts = plan.mounts
    launch.confinement = _confinement(plan)
    return launch


def _confinement(plan: Plan) -> list[mounts.Operation]:
    """What init takes upon itself before all else. A session keyring root makes as root."""
    operations: list[mounts.Operation] = []
    if plan.abstract_sockets != "shared":
        operations.append(confinement.AbstractSockets(plan.abstract_sockets == "own"))
    if plan.no_new_privs:
        operations.append(confinement.NoNewPrivileges())
    return operations


def _operations(
    plan: Plan,
    scratch: Kept,
    keep: tuple[Kept, ...],
    has_root: bool,
    execute: bytes,
    user_namespace: int | None = None,
) -> list[mounts.Operation]:
    """The mounts of the plan, in the order in which they have to be made."""
    operations: list[mounts.Operation] = []
    if "mount" not in plan.namespaces:
        return operations
    operations.append(mounts.Slave())
    for path in plan.hide:
        operations += _hidden(path, keep, execute)
    for mount in plan.mounts:
        operation = _operation(mount, scratch, keep, has_root, user_namespace)
        if operation is not None:
            operations.append(operation)
    if "ipc" in plan.namespaces and posix.access("/dev/mqueue", posix.X_OK):
        operations.append(mounts.Mqueue())
    if "pid" in plan.namespaces:
        operations.append(mounts.Proc())
    return operations


def _operation(
    mount: Mount,
    scratch: Kept,
    keep: tuple[Kept, ...],
    has_root: bool,
    user_namespace: int | None,
) -> mounts.Operation | None:
    target = _bytes(mount.target)
    if mount.kind == "tmpfs":
        kept = _below(target, keep)
        return mounts.Tmpfs(target, has_root, mount.size_bytes, mount.inodes, kept)
    if mount.kind == "devpts":
        # Who has a terminal must find its name again.
        return None if any(map(_is_terminal, (0, 1, 2))) else mounts.Devpts(target, has_root)
    if mount.kind == "bind":
        return mounts.Bind(_bytes(mount.source or ""), target, mount.read_only, mount.nosuid)
    path = PRIVATE + b"/" + target.strip(b"/").replace(b"/", b".")
    if mount.kind == "overlay":
        from ledge.kernel.overlay import Overlay  # few jobs have to pay for it

        source = _bytes(mount.source or "")
        return Overlay(source, target, scratch, path + b".overlay", user_namespace)
    # The starter's MOUNT_UNDER_SCRATCH keeps /tmp in the directory tmp of the scratch directory.
    if _same(scratch.source + target, target):
        return None
    return mounts.PrivateDirectory(target, scratch, path, _below(target, keep))


def _hidden(path: str, keep: tuple[Kept, ...], execute: bytes) -> list[mounts.Operation]:
    if path != EXECUTE:
        return [mounts.Hidden(_bytes(path), _below(_bytes(path), keep))]
    own = job_directory(execute)
    if own is None:
        return []
    return [mounts.Hidden(own.rpartition(b"/")[0], (Kept(own, own),))]


def job_directory(path: bytes) -> bytes | None:
    """The job's directory in EXECUTE, in which `path` is: the innermost dir_PID, if there is one.

    The scratch directory is that or one in it, by HTCondor's version and STARTER_NESTED_SCRATCH.
    """
    names = path.split(b"/")
    for at in range(len(names) - 1, 1, -1):
        if names[at].startswith(_JOB_DIRECTORY):
            return b"/".join(names[: at + 1])
    return None


def _is_terminal(fd: int) -> bool:
    try:
        return posix.isatty(fd)
    except OSError:
        return False


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
