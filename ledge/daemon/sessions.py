"""Sessions of condor_ssh_to_job: the job of whose starter the one that asks is a child.

The starter of a job, and nobody else, starts processes whose parent it is: the job's wrapper, the
sshd of each session, hooks. All are the job's user's, and what gets into the job is a process of
that user's with no more rights than the one that asked. Each may ask once, so that nobody can have
more processes made than the starter does.
"""

from __future__ import annotations

from collections.abc import Iterable

from ledge.daemon.inventory import first_process, init_of
from ledge.daemon.peer import Peer, PeerError, Process, starter_of
from ledge.daemon.running_job import RunningJob
from ledge.kernel.proc import start_time
from ledge.launcher.likeness import objection
from ledge.launcher.order import Entry


def entry_of(peer: Peer, jobs: Iterable[RunningJob], handover: int) -> tuple[Entry, int]:
    """The order to let the peer into its starter's job, and the PID of its first process in there.

    Raises PeerError, OSError.
    """
    why = objection(peer.proc, peer.uid)
    if why:
        raise PeerError(why)
    job = _job_of(peer, jobs)
    identity = peer.pid, start_time(peer.proc)
    if peer.pid == job.pid or identity in job.sessions:
        raise PeerError("a process that is the job's wrapper, or has asked before")
    init = init_of(job)
    first = first_process(init) if init else None
    if init is None or first is None:
        raise PeerError("the job has not begun, or has ended")
    job.sessions.add(identity)
    place = init, job.cgroup().rpartition(b"/")[0], job.name
    return Entry(peer.pid, peer.uid, place, (handover, peer.pidfd)), first[1]


def _job_of(peer: Peer, jobs: Iterable[RunningJob]) -> RunningJob:
    """The job of the user's that the peer's starter has started first, of those that run."""
    starter = starter_of(peer)
    try:
        for job in jobs:
            if _is_of(job, starter, peer.uid):
                return job
    finally:
        starter.close()
    raise PeerError("its starter has no job here that ledged knows")


def _is_of(job: RunningJob, starter: Process, uid: int) -> bool:
    """Whether a job is this user's and was started by this starter, which lives."""
    try:
        parent = starter_of(job)
    except (OSError, PeerError):
        return False  # it ends in this moment
    try:
        return parent.pid == starter.pid and job.lives() and job.uid() == uid
    finally:
        parent.close()
