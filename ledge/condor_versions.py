"""What differs between versions of HTCondor, and what is done about it: here and nowhere else.

    before 24.8   a starter that runs a hook gives its job no control group, so there is no
                  PREPARE_JOB hook: what is refused goes back to the queue instead of being held
    before 24.8   a job has one control group, condor_NAME, which is its user's, and stands in it
    from 24.8 on  it has condor_NAME.slice, which is its user's, and stands in NAME.scope below
    before 25.4   .update.ad lies in the job's own directory (STARTER_NESTED_SCRATCH, from 24.12.4
                  on, mends that): no LedgeUsage (ledge/publish/update_ad.py looks whose it is)
    from 25.4 on  a JOB_EXIT hook loses the output of jobs that transfer files
    before 24.7   the startd does not tell a starter's PID (StarterPid), by which the recorder knows
                  whose figures it has: no Ledge
    before 24.0   classad2 and htcondor2 have no exceptions of their own

A group with processes cannot hand controllers on (cgroup-v2.rst, "No Internal Process Constraint"),
so beside a job that stands in its only group there is no place for ours: make_room() makes of it
what HTCondor makes from 24.8 on. HTCondor kills, freezes and removes the whole tree, and reads what
the kernel sums up in it, so it is all the same to it (src/condor_utils/
proc_family_direct_cgroup_v2.cpp). Only the number of processes (NumPids) it reads of the one group.
docs/htcondor_versions.md is for admins. The way of every job comes through here, so little is
imported.
"""

from __future__ import annotations

import posix

from ledge.kernel.cgroup2 import Cgroup

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from types import ModuleType

OLDEST = (23, 9)
TESTED = "23.9.6 and 25.14.1"
# A starter chooses how it follows processes with the first one that it starts: a hook that wants no
# group (src/condor_utils/proc_family_interface.cpp).
HOOK_LEAVES_GROUP = (24, 8)
STARTER_PID = (24, 7)
NESTED_SCRATCH = (25, 4)
JOB_EXIT_HOOK_LOSES_OUTPUT = (25, 4)

_SLICE, _SCOPE = b".slice", b".scope"
_ONE_GROUP = b"condor_"
_OUR_SCOPE = b"wrapper.scope"
# The wrapper, perhaps HTCondor's init of a PID namespace, and what a hostile one forks meanwhile.
_MOST_ROUNDS = 100


def parse_version(text: str) -> tuple[int, int] | None:
    """Major and minor of CONDOR_VERSION; None for what is no version."""
    major, _, rest = text.partition(".")
    minor = rest.partition(".")[0]
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None


# ---- control groups


def is_jobs_group(name: bytes) -> bool:
    """Whether a group below BASE_CGROUP is one that HTCondor made for a job."""
    return name.endswith(_SLICE) or _is_one_group(name)


def is_scope_of_job(path: bytes) -> bool:
    """Whether this group is where the wrapper stands in a group that HTCondor made for a job."""
    above, _, scope = path.rpartition(b"/")
    group = above.rpartition(b"/")[2]
    if scope == _OUR_SCOPE:
        return _is_one_group(group)
    return scope.endswith(_SCOPE) and group == scope[: -len(_SCOPE)] + _SLICE


def make_room(path: bytes, mounted: bytes, uid: int) -> None:
    """Have a wrapper that stands in a job's only group stand in a group of its own below it.

    `uid` is the wrapper's, `path` its group; where HTCondor made room itself, or this is no job's
    group, nothing is done. Raises OSError.
    """
    if not _is_one_group(path.rpartition(b"/")[2]):
        return
    group = Cgroup.open(mounted + path)
    above = group.open(b"..", group.fd)
    try:
        if posix.fstat(group.fd).st_uid == uid and posix.fstat(above.fd).st_uid == 0:
            _move_all(group)
            group.enable_controllers_of(above)
    finally:
        above.close()
        group.close()


def _is_one_group(name: bytes) -> bool:
    return name.startswith(_ONE_GROUP) and not name.endswith((_SLICE, _SCOPE))


def _move_all(group: Cgroup) -> None:
    """All of the group's processes into a new group below it, children that they make included."""
    scope = group.make(_OUR_SCOPE)
    try:
        for _ in range(_MOST_ROUNDS):
            members = (group.read("cgroup.procs") or b"").split()
            if not members:
                return
            for pid in members:
                _move(pid, scope)
    finally:
        scope.close()


def _move(pid: bytes, group: Cgroup) -> None:
    try:
        group.write("cgroup.procs", pid)
    except ProcessLookupError:
        pass  # it has ended


# ---- the Python bindings


def errors_of(library: ModuleType, own: str) -> tuple[type[Exception], ...]:
    """What classad2 or htcondor2 raises for a wrong expression, a refusal, or no connection.

    `own` is the name of the exception that newer ones have for all of it.
    """
    error = getattr(library, own, None)
    return (SyntaxError, RuntimeError) if error is None else (error,)
