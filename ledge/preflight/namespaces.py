"""A job's namespaces and mounts, made as they are for a job, by the code that makes them.

AppArmor lets a user make a user namespace and then refuses the mounts in it; a container lets root
make namespaces and refuses a fresh /proc. So what is tried is a whole job, /bin/true.
"""

from __future__ import annotations

import os
import select
import shutil
from tempfile import mkdtemp

from ledge.errors import LedgeError
from ledge.job.inheritance import Inheritance, hold_signals
from ledge.kernel import syscalls
from ledge.plan.plan import NAMESPACES, Plan
from ledge.preflight.attempt import attempt
from ledge.wrapper.in_process import prepared, start

NOBODY = 65534
_COMMAND = b"/bin/true"
# Filesystem Hierarchy Standard 3.0: for what is mounted for a while.
_PLACES = ("/mnt", "/media", "/var/tmp")


def isolation(uid: int) -> tuple[tuple[str, ...], LedgeError | None]:
    """The namespaces that a user can make, and why not all; root can make them for anybody.

    Only root can try it for another user.
    """
    failure = attempt_plan(Plan(), uid)
    if failure is None:
        return NAMESPACES, None
    return tuple(name for name in NAMESPACES if attempt_plan(_only(name), uid) is None), failure


def attempt_plan(plan: Plan, uid: int) -> LedgeError | None:
    """Run a job by the plan as that user, and say why it cannot be done."""
    plan.cgroup = "none"
    if os.geteuid() == 0:
        # A preflight that is killed, as HTCondor's startd kills it to restart, leaves nothing.
        return attempt(lambda keep: _run(plan, uid, _scratch_of_its_own(), keep))
    scratch = mkdtemp(prefix="condor_ledge-")
    try:
        return attempt(lambda keep: _run(plan, uid, scratch, keep))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _scratch_of_its_own() -> str:
    """A directory that is in no file system but this process's; raises OSError."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount(b"none", b"/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
    # Not over /tmp, where this code may be when it is tried out.
    place = next(filter(os.path.isdir, _PLACES))
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    syscalls.mount(b"tmpfs", os.fsencode(place), b"tmpfs", flags, b"mode=755")
    return mkdtemp(prefix="condor_ledge-", dir=place)


def _only(namespace: str) -> Plan:
    """With a mount namespace, for what shows the other one: /proc, /dev/mqueue."""
    plan = Plan()
    if namespace != "mount":
        plan.namespaces = (namespace, "mount")
        plan.mounts = ()
    else:
        plan.namespaces = (namespace,)
    return plan


def _run(plan: Plan, uid: int, scratch: str, keep: int) -> None:
    if uid != os.geteuid():
        os.chown(scratch, uid, -1)
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        # What has changed its user cannot write its own uid_map otherwise.
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
    os.chdir("/")
    inheritance = Inheritance([_COMMAND], [])
    inheritance.mask = hold_signals()
    running = start(prepared(plan, inheritance, os.fsencode(scratch)))
    running.confirm(keep=(keep,))
    select.select([running.pidfd], [], [])
