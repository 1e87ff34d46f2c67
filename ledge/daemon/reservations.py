"""What was decided on jobs, each from its hook to the end of its starter.

The wrapper runs with the job's environment, and so may run what the user likes (LD_PRELOAD): its
word on the job's ads is taken only where the hook has given none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ledge.classads import attribute, string
from ledge.daemon.apart import parallel_job
from ledge.daemon.decider import Decider
from ledge.daemon.facts import Facts
from ledge.daemon.peer import Job, Peer, PeerError, Process, job_of, starter_of
from ledge.daemon.recording import Starts
from ledge.daemon.server import Request, Server
from ledge.kernel.cgroup2 import Cgroup
from ledge.limits.enforcement import Receipt, share_out
from ledge.log import Log
from ledge.plan.plan import Plan
from ledge.policy.asked_mounts import paths_needed
from ledge.policy.decision import OF_THE_JOB, Decision
from ledge.policy.model import MOUNTS

# The starter ends first, and its startd removes what is left of the slice; twice is looked.
_REMOVALS = 2
_REMOVAL_SECONDS = 5.0
_EMPTY = ("private", "tmpfs")  # mounts that have nothing in them when a job begins


class Reservation:
    """The policy's word on one starter's job; `name` is what the log calls the job.

    `jobs` is the group of all jobs' slices if the job has CPUs of its own there to give back;
    `paths` are what must be on the node for a job that asks for mounts.
    """

    def __init__(
        self, starter: Process, ads: tuple[bytes, bytes], plan: Plan | None, refusal: str
    ) -> None:
        job_ad, machine_ad = ads
        self.starter = starter
        self.facts = Facts(job_ad, machine_ad)
        self.name = _job_name(job_ad)
        self.parallel_job = parallel_job(job_ad)
        self.plan = plan
        self.refusal = refusal
        self.jobs: Cgroup | None = None
        self.paths: list[str] = []
        self.starts = Starts()

    def note_cpus(self, job: Job, receipt: Receipt) -> None:
        """Remember that the job has CPUs of its own, if it has."""
        exclusive = self.plan is not None and self.plan.limits.exclusive_cpus is not None
        if exclusive and self.jobs is None and "cpuset.cpus" in receipt.enforced:
            self.jobs = Cgroup.open(b"..", job.slice.fd)


class Reservations:
    """All of them, by the PID of the starter; `foreseen` says why a job will not run here."""

    def __init__(
        self, log: Log, has_slices: bool, foreseen: Callable[[Process, Plan], str]
    ) -> None:
        self._log = log
        self._has_slices = has_slices
        self._foreseen = foreseen
        self._kept: dict[int, Reservation] = {}
        # What waits while a decision on its job is on its way.
        self._waiting: dict[int, deque[Request]] = {}

    def attach(
        self, server: Server, decider: Decider, handle: Callable[[Request], None]
    ) -> None:
        """Become part of the server's loop; `handle` is given again what waited."""
        self._server, self._decider, self._handle = server, decider, handle

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, starter: Process) -> Reservation | None:
        """What was decided on the job of a starter that lives."""
        reservation = self._kept.get(starter.pid)
        return reservation if reservation and reservation.starter.lives() else None

    def reserve(self, request: Request) -> None:
        """Have it decided, or answer what was. Raises PeerError, OSError."""
        starter = starter_of(request.peer)
        if starter.pid in self._waiting:
            self._waiting[starter.pid].append(request)
            starter.close()
            return
        earlier = self.of(starter)
        # Without slices nothing tells a wrapper from its hook, which comes first.
        if earlier is not None and (not self._has_slices or _is_wrapper(request.peer)):
            starter.close()
            _answer(request, earlier)
            return
        self._waiting[starter.pid] = deque()
        self._decide(request, starter)

    def _decide(self, request: Request, starter: Process) -> None:
        job_ad, _, machine_ad = request.body.partition(b"\0")

        def decided(decision: Decision) -> None:
            plan, reason = decision.plan, decision.refusal or ""
            if plan is not None:
                reason = self._foreseen(starter, plan)
            reservation = Reservation(
                starter, (job_ad, machine_ad), None if reason else plan, reason
            )
            self._keep(reservation)
            if plan is not None and OF_THE_JOB in decision.origins.get(MOUNTS, ""):
                # Where the policy lets a job run without them, it runs without them.
                reservation.paths = paths_needed(plan) if plan.on_failure == "refuse" else []
            if reason:
                self._log.complain(request.peer.uid, f"{reservation.name}: refused: {reason}")
            _answer(request, reservation)
            self._next(starter.pid)

        self._decider.decide(job_ad, machine_ad, decided)

    def _next(self, pid: int) -> None:
        """Go on with what waited for a decision; one by one, whatever comes of each."""
        waiting = self._waiting.pop(pid)
        while waiting:
            self._handle(waiting.popleft())
            if pid in self._waiting:
                self._waiting[pid] = waiting
                return

    def _keep(self, reservation: Reservation) -> None:
        pid = reservation.starter.pid
        earlier = self._kept.pop(pid, None)
        if earlier is not None:
            if earlier.starter.lives():
                reservation.starts = earlier.starts
            self._forget(earlier)
        self._kept[pid] = reservation
        self._server.watch(reservation.starter.pidfd, lambda: self._ended(pid))

    def _ended(self, pid: int) -> None:
        self._forget(self._kept.pop(pid))

    def _forget(self, reservation: Reservation) -> None:
        self._server.forget(reservation.starter.pidfd)
        reservation.starter.close()
        if reservation.jobs is not None:
            self._share_out(reservation.jobs, _REMOVALS)

    def _share_out(self, jobs: Cgroup, times: int) -> None:
        """Let the other jobs have the CPUs of one whose slice goes away in the next moments."""
        for name, why in share_out(jobs).items():
            self._log.write(f"CPUs are not shared out to {name or 'the jobs'}: {why}")
        if times > 1:
            self._server.later(_REMOVAL_SECONDS, lambda: self._share_out(jobs, times - 1))
        else:
            jobs.close()


def _is_wrapper(peer: Peer) -> bool:
    try:
        job_of(peer).close()
    except PeerError:
        return False
    return True


def _answer(request: Request, reservation: Reservation) -> None:
    if reservation.plan is None:
        request.answer("refused", reservation.refusal.encode("utf-8", "replace"))
    else:
        # The user's own process looks for them: it takes the user's rights, and may take long.
        mounts = _mounts_of(reservation.plan)
        request.answer("done", "\0".join([*reservation.paths, *mounts]).encode())


def _mounts_of(plan: Plan) -> list[str]:
    """Where the job will see something else than its hook: "-/tmp" begins empty, "+/data" not."""
    if "mount" not in plan.namespaces:
        return []
    found = [("-" if one.kind in _EMPTY else "+") + one.target for one in plan.mounts]
    return found + [f"-{path}" for path in plan.hide if path.startswith("/")]


def _job_name(job_ad: bytes) -> str:
    cluster, proc = (attribute(job_ad, name) or b"?" for name in (b"ClusterId", b"ProcId"))
    owner = string(attribute(job_ad, b"Owner")) or b"?"
    return f"job {_text(cluster)}.{_text(proc)} of {_text(owner)}"


def _text(value: bytes) -> str:
    return value[:40].decode("utf-8", "replace")
