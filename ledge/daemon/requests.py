"""What ledged does on a request.

    reserve   from the prepare hook, or the wrapper of a job that had none: the policy's word on the
              job whose ads the body has
    launch    from the wrapper: limits on the slice, and the job started by the launcher
    settle    from the wrapper, when the job is gone: the last reading
    status    for root

A reservation belongs to the starter that started hook and wrapper, and is dropped when that ends.
The wrapper runs with the job's environment, and so may run what the user likes (LD_PRELOAD): its
word on the job's ads is taken only where the hook has given none.

Nothing is kept on disk: after a restart a wrapper reserves anew, and what has been set on a slice
the kernel knows.
"""

from __future__ import annotations

import json
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ledge import __version__
from ledge.attributes import isolation_attributes, usage_attributes
from ledge.classads import attribute, string
from ledge.daemon.decider import Decider
from ledge.daemon.foresight import unenforceable
from ledge.daemon.log import Log
from ledge.daemon.peer import Job, Peer, PeerError, Process, job_of, scratch_device, starter_of
from ledge.daemon.recording import JobRecord, Recording
from ledge.daemon.running_job import RunningJob, group_name
from ledge.daemon.sampling import Sampler, settled_usage
from ledge.daemon.server import Request, RequestError, Server
from ledge.daemon.settlement import Settlement, has_populated_leaves
from ledge.daemon.traffic import NodeTraffic
from ledge.enforcement import Receipt, enforce, give_back, share_out
from ledge.errors import LedgeError
from ledge.kernel.cgroup2 import Cgroup
from ledge.launcher.order import Order, send_order
from ledge.plan import Plan
from ledge.policy.decision import Decision
from ledge.publish.chirp import expression
from ledge.usage import Usage

if TYPE_CHECKING:
    from ledge.classads import Value

_PAUSE_SECONDS = 0.005
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

    def __init__(self, orders: socket.socket, traffic: NodeTraffic, log: Log) -> None:
        self.orders = orders
        self.traffic = traffic
        self.log = log
        self.started = time.time()
        self.reservations: dict[int, Reservation] = {}  # by the starter's PID
        self.running: dict[tuple[int, int], RunningJob] = {}  # by the identity of the slice
        # By the starter's PID, what waits while a decision on its job is on its way.
        self.waiting: dict[int, deque[Request]] = {}
        # Answers with their descriptor, until the launcher has taken the order.
        self.ordered: deque[tuple[Request, bytes, socket.socket]] = deque()
        self.sampler = Sampler(log)
        self.counts = dict.fromkeys(_VERBS, 0)
        self.launcher_died = False

    def attach(self, server: Server, decider: Decider, recording: Recording) -> None:
        """Become part of the server's loop."""
        self.server = server
        self.decider = decider
        self.recording = recording
        self.orders.setblocking(False)
        server.watch(self.orders.fileno(), self._order_taken)
        self.sampler.attach(server)

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
        starter = starter_of(request.peer)
        if starter.pid in self.waiting:
            self.waiting[starter.pid].append(request)
            starter.close()
            return
        earlier = self._reservation(starter)
        if earlier is not None and _is_wrapper(request.peer):
            starter.close()
            _answer_reserved(request, earlier)
            return
        self.waiting[starter.pid] = deque()
        self._decide(request, starter)

    def _decide(self, request: Request, starter: Process) -> None:
        job_ad, _, machine_ad = request.body.partition(b"\0")
        name = _job_name(job_ad)

        def decided(decision: Decision) -> None:
            plan, reason = decision.plan, decision.refusal or ""
            if plan is not None:
                reason = _foreseen(starter, plan)
            reservation = Reservation(starter, name, None if reason else plan, reason)
            self._keep(reservation)
            if reason:
                self.log.write(f"{name}: refused: {reason}")
            _answer_reserved(request, reservation)
            self._next(starter.pid)

        self.decider.decide(job_ad, machine_ad, decided)

    def _next(self, pid: int) -> None:
        """Go on with what waited for a decision; one by one, whatever comes of each."""
        waiting = self.waiting.pop(pid)
        while waiting:
            self.handle(waiting.popleft())
            if pid in self.waiting:
                self.waiting[pid] = waiting
                return

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
        receipt = enforce(job.slice, plan.limits, scratch_device(job.starter))
        reservation.note_cpus(job, receipt)
        lacking = {k: why for k, why in receipt.not_enforced.items() if k not in _ADVISORY}
        if lacking and plan.on_failure == "refuse":
            self._refuse(request, _cannot_be_enforced(lacking))
            return
        attributes = {**isolation_attributes(plan.namespaces), **_receipt_attributes(receipt)}
        # Before the attributes: what the wrapper is to do if the launcher fails, and the name of
        # the group, which it may not know (its own PID is another in a PID namespace).
        name = group_name(request.peer.pid)
        body = b"%s %s\n%s" % (plan.on_failure.encode(), name, _lines(attributes))
        record = self.recording.begin(job, request.peer.uid, attributes)
        self._order(request, job, plan, body, record)
        self.log.write(f"{reservation.name}: launched for the wrapper {request.peer.pid}")

    def _order(
        self, request: Request, job: Job, plan: Plan, answer: bytes, record: JobRecord
    ) -> None:
        """Have the launcher start the job; the answer waits until it has taken the order."""
        peer = request.peer
        running = RunningJob(
            peer.pid, job.slice, self.sampler, self.traffic.begin(job.slice), record
        )
        theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fds = (ours.fileno(), peer.pidfd, peer.proc, job.scope)
        try:
            send_order(self.orders, Order(peer.pid, peer.uid, running.name, plan, fds))
        except OSError:
            running.close()
            theirs.close()
            raise
        finally:
            ours.close()
        self._note_running(job, running)
        self.ordered.append((request, answer, theirs))

    def _order_taken(self) -> None:
        """The launcher has let go of its end: now the wrapper may have the other one."""
        if not _received(self.orders):
            self.log.write("the launcher has died; ledged ends, to be started anew")
            self.launcher_died = self.server.stopping = True
            return
        request, body, theirs = self.ordered.popleft()
        request.answer("done", body, theirs.detach())

    def _check_alone(self, job: Job) -> None:
        """One job at a time in a slice: what is in there must not get itself started anew."""
        running = self.running.get(job.identity())
        if running is not None and running.lives():
            raise PeerError("a job of this slice is running")
        if running is None and has_populated_leaves(job.slice):
            raise PeerError("a job of this slice is running since before ledged was started")

    def _note_running(self, job: Job, running: RunningJob) -> None:
        identity = job.identity()
        earlier = self.running.pop(identity, None)
        if earlier is not None:
            self._wrapper_ended(identity, earlier)
        self.running[identity] = running
        self.server.watch(running.pidfd, lambda: self._wrapper_ended(identity, running))

    def _wrapper_ended(self, identity: tuple[int, int], running: RunningJob) -> None:
        """With the wrapper the job has ended; where it could not settle, its group is left."""
        if self.running.get(identity) is running:
            del self.running[identity]
        self.server.forget(running.pidfd)
        last_words = running.last_words()
        if last_words:
            self.log.write(last_words)
        try:
            self._clear(Settlement(running.slice, running.name))
        except OSError:
            pass  # it has settled, or the slice has gone, or init will see that it is alone
        running.close()

    def _clear(self, settlement: Settlement) -> None:
        try:
            done = settlement.empty() or settlement.late()
        except OSError:
            done = True
        if done:
            self._remove(settlement)
        else:
            self.server.later(_PAUSE_SECONDS, lambda: self._clear(settlement))

    # ---- settle

    def _settle(self, request: Request) -> None:
        job = job_of(request.peer)
        try:
            reservation = self.reservations.get(job.starter.pid)
            if reservation is not None and reservation.jobs is not None:
                give_back(job.slice)
            settlement = Settlement(job.slice, group_name(request.peer.pid))
            running = self._note_settled(job)
            record = running.record if running else self.recording.begin(job, request.peer.uid, {})
            traffic = running.traffic if running else self.traffic.of(job.slice)
        except FileNotFoundError:
            usage = Usage("none")
            usage.miss("all", "the job had no control group of its own")
            request.answer("done", _lines(usage_attributes(usage)))
            return
        finally:
            job.close()
        sample = running.sample if running else None

        def answer() -> None:
            usage = settled_usage(settlement.root, sample, traffic)
            body = _lines(usage_attributes(usage))
            record.settled(usage, lambda: request.answer("done", body))

        self._continue(request, settlement, answer)

    def _note_settled(self, job: Job) -> RunningJob | None:
        """None for a job that was launched before ledged was started anew."""
        running = self.running.get(job.identity())
        if running is not None:
            running.settled = True
        return running

    def _continue(
        self, request: Request, settlement: Settlement, answer: Callable[[], None]
    ) -> None:
        """Answer when the job's last process has gone. Its group is removed after the reading."""
        try:
            if settlement.empty() or settlement.late():
                answer()
                self._remove(settlement)
                return
        except OSError as error:
            settlement.close()
            self._refuse(request, f"cannot read the control group: {error.strerror}")
            return
        self.server.later(_PAUSE_SECONDS, lambda: self._continue(request, settlement, answer))

    def _remove(self, settlement: Settlement) -> None:
        if settlement.remove() or settlement.late():
            settlement.close()
        else:
            self.server.later(_PAUSE_SECONDS, lambda: self._remove(settlement))

    # ---- status

    def _status(self, request: Request) -> None:
        status = {
            "version": __version__,
            "started": int(self.started),
            "reservations": len(self.reservations),
            "jobs": len(self.running),
            "connections": len(self.server.connections),
            "requests": self.counts,
            "policy": self.decider.policy,
            "policy_problem": self.decider.problem,
            "network_problem": self.traffic.problem,
            "recording": self.recording.status(),
        }
        request.answer("done", json.dumps(status).encode())

    def _refuse(self, request: Request, reason: str) -> None:
        peer = request.peer
        text = f"{request.verb} of process {peer.pid}, user {peer.uid}: refused: {reason}"
        self.log.complain(peer.uid, text)
        request.answer("refused", reason.encode("utf-8", "replace"))


def _foreseen(starter: Process, plan: Plan) -> str:
    """Why the job will not run here, for the hook that can still hold it."""
    try:
        lacking = unenforceable(starter, plan.limits) if plan.on_failure == "refuse" else {}
    except (OSError, ValueError, LedgeError):
        return ""  # what cannot be foreseen shows at the launch
    return _cannot_be_enforced(lacking) if lacking else ""


def _cannot_be_enforced(lacking: dict[str, str]) -> str:
    reasons = "; ".join([f"{name}: {why}" for name, why in lacking.items()])
    return f"limits that cannot be enforced: {reasons}"


def _is_wrapper(peer: Peer) -> bool:
    try:
        job_of(peer).close()
    except PeerError:
        return False
    return True


def _answer_reserved(request: Request, reservation: Reservation) -> None:
    if reservation.plan is None:
        request.answer("refused", reservation.refusal.encode("utf-8", "replace"))
    else:
        request.answer("done")


def _job_name(job_ad: bytes) -> str:
    cluster, proc = (attribute(job_ad, name) or b"?" for name in (b"ClusterId", b"ProcId"))
    owner = string(attribute(job_ad, b"Owner")) or b"?"
    return f"job {_text(cluster)}.{_text(proc)} of {_text(owner)}"


def _text(value: bytes) -> str:
    return value[:40].decode("utf-8", "replace")


def _receipt_attributes(receipt: Receipt) -> dict[str, str]:
    values = {**dict.fromkeys(receipt.remarks, ""), **receipt.enforced}
    limits = [name + (f"={value}" if value else "") for name, value in values.items()]
    remarks = [f" ({receipt.remarks[name]})" if name in receipt.remarks else "" for name in values]
    holds = ", ".join(map("".join, zip(limits, remarks)))
    lacks = "; ".join([f"{name}: {reason}" for name, reason in receipt.not_enforced.items()])
    # Both in any case: what is not said here a job could say by chirp.
    return {"Enforced": holds or "none", "NotEnforced": lacks or "none"}


def _received(orders: socket.socket) -> bytes:
    try:
        return orders.recv(1)
    except ConnectionError:
        return b""


def _lines(attributes: Mapping[str, Value]) -> bytes:
    lines = [f"{name} = {expression(value)}\n" for name, value in attributes.items()]
    return "".join(lines).encode("utf-8", "replace")
