"""What systemd delegated to HTCondor: the groups above the jobs' slices, and what they can hand on.

    …/condor.service/           the unit, marked as delegated; HTCondor's own daemons live in leaf/
        htcondor/               BASE_CGROUP
            slot1_1.slice/      a job's

Nothing is written but "+cpuset" to cgroup.subtree_control, from the unit down to the slice's
parent. Sources: Documentation/admin-guide/cgroup-v2.rst; for the mark, systemd's
CGROUP_DELEGATION.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from ledge.errors import NotEnforced
from ledge.kernel.cgroup2 import Cgroup
from ledge.limits.remedies import remedy

_DEEPEST = 32  # more groups above one another than any node has


def enable_cpuset(slice_: Cgroup) -> None:
    """Have the cpuset controller on in the slice. Raises NotEnforced and OSError."""
    if has_controller(slice_, "cgroup.controllers", "cpuset"):
        return
    with groups_above(slice_) as above:
        unit = delegated_unit(above)
        if unit is None:
            raise NotEnforced(
                f"no group above {path(slice_)} is delegated, so none is changed",
                "Delegate=yes in condor.service, or +cpuset in cgroup.subtree_control by hand",
            )
        for group in reversed(above[: above.index(unit) + 1]):
            _hand_cpuset_on(group)


def _hand_cpuset_on(group: Cgroup) -> None:
    if not has_controller(group, "cgroup.controllers", "cpuset"):
        raise NotEnforced(
            f"{path(group)} has no cpuset controller",
            "Delegate=yes in condor.service, and cpuset not mounted as version 1",
        )
    if not has_controller(group, "cgroup.subtree_control", "cpuset"):
        try:
            group.write("cgroup.subtree_control", b"+cpuset")
        except OSError as error:
            problem = f"+cpuset in {path(group)} was refused: {error.strerror}"
            raise NotEnforced(problem, remedy(error)) from error


def delegated_unit(above: list[Cgroup]) -> Cgroup | None:
    """The lowest of the groups that systemd delegated; None if it did not."""
    return next((group for group in above if _is_delegated(group)), None)


def _is_delegated(group: Cgroup) -> bool:
    """Whether systemd has marked the group as one whose inside is the unit's own business."""
    for name in ("trusted.delegate", "user.delegate"):
        with suppress(OSError):
            if os.getxattr(group.fd, name) == b"1":
                return True
    return False


@contextmanager
def groups_above(slice_: Cgroup) -> Iterator[list[Cgroup]]:
    """The groups above, the slice's parent first; the last is the root, or a container's."""
    with ExitStack() as stack:
        above: list[Cgroup] = []
        group = slice_
        while len(above) < _DEEPEST and group.read("cgroup.type") is not None:  # the root has none
            group = parent(group)
            stack.callback(group.close)
            if group.read("cgroup.controllers") is None:
                break
            above.append(group)
        yield above


def parent(group: Cgroup) -> Cgroup:
    """The group above. Raises OSError."""
    # A group cannot be moved (cgroup2 has no rename), so this is where it always was.
    return group.open(b"..", group.fd)


def has_controller(group: Cgroup, file: str, controller: str) -> bool:
    """Whether a controller stands in cgroup.controllers or cgroup.subtree_control."""
    return controller.encode("ascii") in (group.read(file) or b"").split()


def path(group: Cgroup) -> str:
    """For a reader's eyes only."""
    return os.readlink(f"/proc/self/fd/{group.fd}")
