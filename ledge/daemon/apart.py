"""What ledged keeps jobs from reaching of each other, and what of that this node cannot do."""

from __future__ import annotations

from hashlib import sha256

from ledge.classads import attribute
from ledge.kernel.confinement import why_no_scope
from ledge.network.program import identity_of
from ledge.plan.plan import Plan

_PARALLEL_UNIVERSE = b"11"


def loopback_identity(plan: Plan, slice_inode: int, uid: int, parallel_job: bytes) -> int:
    """What tells the job from others at loopback addresses; 0 if it shares them with all.

    The nodes of a parallel job have one identity. Which job that is its ad says, the user's word:
    so the user is part of it, and nobody gets into a foreign job that way.
    """
    if plan.loopback == "shared":
        return 0
    if not parallel_job:
        return identity_of(slice_inode)
    digest = sha256(b"%d %s" % (uid, parallel_job)).digest()
    return identity_of(int.from_bytes(digest[:4], "big"))


def parallel_job(job_ad: bytes) -> bytes:
    """What all nodes of a job of the parallel universe have in common; empty for other jobs."""
    if attribute(job_ad, b"JobUniverse") != _PARALLEL_UNIVERSE:
        return b""
    # schedd#cluster.process#time: a node may be of another process, never of another cluster.
    schedd = (attribute(job_ad, b"GlobalJobId") or b"").partition(b"#")[0]
    return schedd + b" " + (attribute(job_ad, b"ClusterId") or b"")


def not_apart(plan: Plan, traffic_problem: str) -> dict[str, str]:
    """What the plan wants and this node cannot do, and why; `traffic_problem` of the eBPF."""
    problems = {
        # In a network of the job's own nobody else is at all.
        "loopback": traffic_problem if plan.loopback != "shared" and plan.network == "host" else "",
        "abstract_sockets": why_no_scope() if plan.abstract_sockets != "shared" else "",
    }
    return {name: why for name, why in problems.items() if why}


def demanded(plan: Plan, lacking: dict[str, str]) -> dict[str, str]:
    """Of what this node cannot do, that without which the job is not to run."""
    return {k: why for k, why in lacking.items() if getattr(plan, k, None) != "own_if_possible"}
