"""What ledged does on a request.

    reserve   from the prepare hook, or the wrapper of a job that had none: the policy's word on the
              job whose ads the body has
    launch    from the wrapper: limits on the slice, and the job started by the launcher
    settle    from the wrapper, when the job is gone: the last reading
    status    for root

A reservation belongs to the starter that started hook and wrapper, and is dropped when that ends.
Nothing is kept on disk: after a restart a wrapper reserves anew, and what has been set on a slice
the kernel knows.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping

from ledge import __version__
from ledge.attributes import isolation_attributes, usage_attributes
from ledge.classads import attribute, string
from ledge.daemon.decider import Decider
from ledge.daemon.log import Log
from ledge.daemon.peer import Job, Peer, PeerError, Process, job_of, starter_of
from ledge.daemon.server import Request, RequestError, Server
from ledge.enforcement import Receipt, enforce, give_back, share_out
from ledge.kernel.cgroup2 import Cgroup
from ledge.launcher.order import Order, send_order
from ledge.plan import Plan
from ledge.policy.decision import Decision
from ledge.publish.chirp import expression
from ledge.settle import read_usage
from ledge.usage import Usage

_PAUSE_SECONDS = 0.005
_PATIENCE_SECONDS = 2.0
# The starter ends first, and its startd removes what is left of the slice; twice is looked.
_REMOVALS = 2
_REMOVAL_SECONDS = 5.0
# A weight is a wish: few kernels honour it, and a job is none the worse without.
_ADVISORY = ("io.weight", "io_weight")
_VERBS = ("reserve", "launch", "settle", "status")


class Reservation:
    """The policy's word on one starter's job; `name` is what the log calls the job.

    `jobs` is the group of all jobs' slices if the job has CPUs of its own there to give back.
    """

    def __init__(self, starter: Process, name: str, plan: Plan | None, refusal: str) -> None:
        self.starter = starter
        self.name = name
        self.plan = plan
        self.refusal = refusal
        self.jobs: Cgroup | None = None

    def note_cpus(self, job: Job, receipt: Receipt) -> None:
        """Remember that the job has CPUs of its own, if it has."""
        exclusive = self.plan is not None and self.plan.limits.exclusive_cpus is not None
        if exclusive and self.jobs is None and "cpuset.cpus" in receipt.enforced:
            self.jobs = Cgroup.open(b"..", job.slice.fd)


class Requests:
    """Everything that ledged knows, and its answers."""

    def __init__(self, orders: socket.socket, log: Log) -> None:
        self.orders = orders
        self.log = log
        self.started = time.time()
        self.reservations: dict[int, Reservation] = {}  # by the starter's PID
        self.wrappers: dict[tuple[int, int], Process] = {}  # by the identity of the slice
        self.counts = dict.fromkeys(_VERBS, 0)

    def attach(self, server: Server, decider: Decider) -> None:
        """Become part of the server's loop."""
        self.server = server
        self.decider = decider

    def admit(self, verb: str, length: int, peer: Peer) -> None:
        """Whether the peer may send such a body. Raises RequestError, PeerError."""
        if verb not in _VERBS:
            raise RequestError(f"expected one of {', '.join(_VERBS)}")
        if verb == "reserve":
            starter_of(peer).close()
        elif length:
            raise RequestError(f"{verb} has no body")
        if verb == "status" and peer.uid != 0:
            raise PeerError("status is for root")

    def handle(self, request: Request) -> None:
        """Work on a request; whatever goes wrong is answered."""
        self.counts[request.verb] += 1
        try:
            getattr(self, "_" + request.verb)(request)
        except PeerError as error:
            self._turn_away(request, error)
        except OSError as error:
            self._refuse(request, f"ledged cannot do it: {error}")
        except Exception as error:  # noqa: BLE001  # one job's bad luck must not be every job's
            self._refuse(request, f"internal error: {type(error).__name__}: {error}")

    # ---- reserve

    def _reserve(self, request: Request) -> None:
        job_ad, _, machine_ad = request.body.partition(b"\0")
        starter, name = starter_of(request.peer), _job_name(job_ad)

        def decided(decision: Decision) -> None:
            refusal = decision.refusal or ""
            self._keep(Reservation(starter, name, decision.plan, refusal))
            if decision.plan is None:
                self.log.write(f"{name}: refused: {refusal}")
                request.answer("refused", refusal.encode("utf-8", "replace"))
            else:
                request.answer("done")

        self.decider.decide(job_ad, machine_ad, decided)

    def _keep(self, reservation: Reservation) -> None:
        pid = reservation.starter.pid
        earlier = self.reservations.pop(pid, None)
        if earlier is not None:
            self._forget(earlier)
        self.reservations[pid] = reservation
        self.server.watch(reservation.starter.pidfd, lambda: self._ended(pid))

    def _ended(self, pid: int) -> None:
        self._forget(self.reservations.pop(pid))

    def _forget(self, reservation: Reservation) -> None:
        self.server.forget(reservation.starter.pidfd)
        reservation.starter.close()
        if reservation.jobs is not None:
            self._share_out(reservation.jobs, _REMOVALS)

    def _share_out(self, jobs: Cgroup, times: int) -> None:
        """Let the other jobs have the CPUs of one whose slice goes away in the next moments."""
        for name, why in share_out(jobs).items():
            self.log.write(f"CPUs are not shared out to {name or 'the jobs'}: {why}")
        if times > 1:
            self.server.later(_REMOVAL_SECONDS, lambda: self._share_out(jobs, times - 1))
        else:
            jobs.close()

    # ---- launch

    def _launch(self, request: Request) -> None:
        job = job_of(request.peer)
        try:
            reservation = self._reservation(job.starter)
            if reservation is None:
                request.answer("unreserved")
            elif reservation.plan is None:
                self._refuse(request, reservation.refusal)
            else:
                self._launch_reserved(request, job, reservation, reservation.plan)
        finally:
            job.close()

    def _turn_away(self, request: Request, error: PeerError) -> None:
        """The peer is nobody to launch: where the plan says so, its job runs without us."""
        if request.verb == "launch" and self._may_run_without_us(request.peer):
            self.log.write(f"process {request.peer.pid} is left to itself: {error}")
            request.answer("run", str(error).encode("utf-8", "replace"))
        else:
            self._refuse(request, str(error))

    def _may_run_without_us(self, peer: Peer) -> bool:
        try:
            starter = starter_of(peer)
        except (PeerError, OSError):
            return False
        reservation = self._reservation(starter)
        starter.close()
        plan = reservation.plan if reservation else None
        return plan is not None and plan.on_failure == "run"

    def _reservation(self, starter: Process) -> Reservation | None:
        reservation = self.reservations.get(starter.pid)
        return reservation if reservation and reservation.starter.lives() else None

    def _launch_reserved(
        self, request: Request, job: Job, reservation: Reservation, plan: Plan
    ) -> None:
        self._check_alone(job)
        receipt = self._limit(job, plan)
        reservation.note_cpus(job, receipt)
        lacking = {k: why for k, why in receipt.not_enforced.items() if k not in _ADVISORY}
        if lacking and plan.on_failure == "refuse":
            reasons = "; ".join([f"{k}: {why}" for k, why in lacking.items()])
            self._refuse(request, f"limits that cannot be enforced: {reasons}")
            return
        theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        peer = request.peer
        leaf = b"ledge-%d" % peer.pid
        fds = (ours.fileno(), peer.pidfd, peer.proc, job.scope)
        try:
            send_order(self.orders, Order(peer.pid, peer.uid, leaf, plan, fds))
        finally:
            ours.close()
        self._note_wrapper(job, peer)
        self.log.write(f"{reservation.name}: launched for the wrapper {peer.pid}")
        attributes = {**isolation_attributes(plan.namespaces), **_receipt_attributes(receipt)}
        # What the wrapper is to do if the launcher fails stands before the attributes.
        body = plan.on_failure.encode() + b"\n" + _lines(attributes)
        request.answer("done", body, theirs.detach())

    def _check_alone(self, job: Job) -> None:
        """One job at a time in a slice: what is in there must not get itself started anew."""
        wrapper = self.wrappers.get(job.identity())
        if wrapper is not None and wrapper.lives():
            raise PeerError("a job of this slice is running")
        if wrapper is None and any(_populated_leaves(job.slice)):
            raise PeerError("a job of this slice is running since before ledged was started")

    def _note_wrapper(self, job: Job, peer: Peer) -> None:
        identity = job.identity()
        earlier = self.wrappers.pop(identity, None)
        if earlier is not None:
            self._wrapper_ended(identity, earlier)
        wrapper = Process(peer.pid)
        self.wrappers[identity] = wrapper
        self.server.watch(wrapper.pidfd, lambda: self._wrapper_ended(identity, wrapper))

    def _wrapper_ended(self, identity: tuple[int, int], wrapper: Process) -> None:
        if self.wrappers.get(identity) is wrapper:
            del self.wrappers[identity]
        self.server.forget(wrapper.pidfd)
        wrapper.close()

    def _limit(self, job: Job, plan: Plan) -> Receipt:
        # The starter's working directory is the scratch directory.
        scratch = os.stat("cwd", dir_fd=job.starter.proc).st_dev
        return enforce(job.slice, plan.limits, (os.major(scratch), os.minor(scratch)))

    # ---- settle

    def _settle(self, request: Request) -> None:
        job = job_of(request.peer)
        try:
            reservation = self.reservations.get(job.starter.pid)
            if reservation is not None and reservation.jobs is not None:
                give_back(job.slice)
            settlement = _Settlement(job.slice, b"ledge-%d" % request.peer.pid)
        except FileNotFoundError:
            usage = Usage("none")
            usage.miss("all", "the job had no control group of its own")
            request.answer("done", _lines(usage_attributes(usage)))
            return
        finally:
            job.close()
        self._continue(request, settlement)

    def _continue(self, request: Request, settlement: _Settlement) -> None:
        try:
            if settlement.empty() or settlement.late():
                request.answer("done", _lines(usage_attributes(read_usage(settlement.root))))
                self._remove(settlement)
                return
        except OSError as error:
            settlement.close()
            self._refuse(request, f"cannot read the control group: {error.strerror}")
            return
        self.server.later(_PAUSE_SECONDS, lambda: self._continue(request, settlement))

    def _remove(self, settlement: _Settlement) -> None:
        if settlement.slice.remove(settlement.name, patience_seconds=0) or settlement.late():
            settlement.close()
        else:
            self.server.later(_PAUSE_SECONDS, lambda: self._remove(settlement))

    # ---- status

    def _status(self, request: Request) -> None:
        status = {
            "version": __version__,
            "started": int(self.started),
            "reservations": len(self.reservations),
            "jobs": len(self.wrappers),
            "connections": len(self.server.connections),
            "requests": self.counts,
            "policy": self.decider.policy,
            "policy_problem": self.decider.problem,
        }
        request.answer("done", json.dumps(status).encode())

    def _refuse(self, request: Request, reason: str) -> None:
        peer = request.peer
        self.log.write(f"{request.verb} of process {peer.pid}, user {peer.uid}: refused: {reason}")
        request.answer("refused", reason.encode("utf-8", "replace"))


class _Settlement:
    """A job's group on its way out: whoever is left is killed, then it is read, then removed."""

    def __init__(self, slice_: Cgroup, name: bytes) -> None:
        """Raises OSError."""
        self.name = name
        self.root = Cgroup.open(name, slice_.fd)
        self.slice = Cgroup(os.dup(slice_.fd))
        self.deadline = time.monotonic() + _PATIENCE_SECONDS

    def empty(self) -> bool:
        """Whether nobody is left; whoever is, is killed."""
        if not self.root.populated():
            return True
        self.root.kill()
        return False

    def late(self) -> bool:
        return time.monotonic() > self.deadline

    def close(self) -> None:
        self.root.close()
        self.slice.close()


def _populated_leaves(slice_: Cgroup) -> list[bool]:
    names = [name for name in os.listdir(slice_.fd) if name.startswith("ledge-")]
    found = []
    for name in names:
        group = Cgroup.open(os.fsencode(name), slice_.fd)
        try:
            found.append(group.populated())
        finally:
            group.close()
    return found


def _job_name(job_ad: bytes) -> str:
    cluster, proc = (attribute(job_ad, name) or b"?" for name in (b"ClusterId", b"ProcId"))
    owner = string(attribute(job_ad, b"Owner")) or b"?"
    return f"job {_text(cluster)}.{_text(proc)} of {_text(owner)}"


def _text(value: bytes) -> str:
    return value[:40].decode("utf-8", "replace")


def _receipt_attributes(receipt: Receipt) -> dict[str, str]:
    holds = ", ".join(
        [
            f"{name}={value}" + (f" ({receipt.remarks[name]})" if name in receipt.remarks else "")
            for name, value in receipt.enforced.items()
        ]
    )
    lacks = "; ".join([f"{name}: {reason}" for name, reason in receipt.not_enforced.items()])
    attributes = {"Enforced": holds, "NotEnforced": lacks}
    return {name: value for name, value in attributes.items() if value}


def _lines(attributes: Mapping[str, int | float | str]) -> bytes:
    lines = [f"{name} = {expression(value)}\n" for name, value in attributes.items()]
    return "".join(lines).encode("utf-8", "replace")
