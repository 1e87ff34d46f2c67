"""Jobs on a node where HTCondor makes no control groups (BASE_CGROUP is empty).

ledged gives them their namespaces, but nothing there is could hold a limit, and the wrapper follows
their processes by itself (ledge/tracking/). Who is the wrapper is told by its parent alone.
"""

from __future__ import annotations

import copy
import os

from ledge.daemon.apart import not_apart
from ledge.daemon.peer import PATH_ONLY, Peer, PeerError, Process, mount_point, starter_of
from ledge.launcher.likeness import objection
from ledge.limits.enforcement import Receipt
from ledge.plan.plan import Plan

_REASON = "HTCondor makes no control group for jobs here; set BASE_CGROUP and restart HTCondor"


def sliceless_of(peer: Peer) -> tuple[Process, int]:
    """The starter of a wrapper, and a descriptor of the control group that both are in.

    Where HTCondor makes slices this must not be asked: that group is above every limit, and what
    else of a user's may be in it is no wrapper. Raises PeerError, OSError.
    """
    why = objection(peer.proc, peer.uid)
    if why:
        raise PeerError(why)
    starter = starter_of(peer)
    try:
        path = peer.cgroup()
        if path != starter.cgroup():
            raise PeerError("a process in another control group than its starter")
        return starter, os.open(mount_point() + path, PATH_ONLY | os.O_NOFOLLOW)
    except (OSError, PeerError):
        starter.close()
        raise


def without_groups(plan: Plan) -> Plan:
    """The same without what a control group is needed for; its limits are still wanted."""
    rest = copy.copy(plan)
    rest.namespaces = tuple([name for name in plan.namespaces if name != "cgroup"])
    rest.cgroup = "none"
    return rest


def unenforced(plan: Plan) -> Receipt:
    """No limit of the plan holds, and programs of the kernel's that keep apart have no group."""
    receipt = Receipt()
    receipt.not_enforced = dict.fromkeys(plan.limits.wanted(), _REASON)
    receipt.not_enforced.update(not_apart(plan, _REASON))
    return receipt
