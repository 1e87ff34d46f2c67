"""What ledged does on a request.

    reserve   from the prepare hook, or the wrapper of a job that had none: the policy's word on the
              job whose ads the body has
    launch    from the wrapper: limits on the slice, and the job started by the launcher
    settle    from the wrapper, when the job is gone: the last reading
    enter     from the wrapper of a session of condor_ssh_to_job: into the job (daemon/sessions.py)
    status    for root
    jobs      for root: the last readings of the jobs that run (ledge/daemon/readings.py)

A reservation belongs to the starter that started hook and wrapper, and is dropped when that ends.
Nothing is kept on disk: after a restart a wrapper reserves anew, what has been set on a slice the
kernel knows, and jobs that run are found by their wrappers.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from ledge import __version__
from ledge.daemon.adoption import running_jobs
from ledge.daemon.apart import demanded, loopback_identity, not_apart
from ledge.daemon.decider import Decider
from ledge.daemon.endings import PAUSE_SECONDS, Endings
from ledge.daemon.facts import Facts
from ledge.daemon.foresight import cannot_be_enforced, foreseen
from ledge.daemon.inventory import LaunchLog, described
from ledge.daemon.networks import LaunchNetwork, PrivateNetworks
from ledge.daemon.peer import (
    Job,
    Outsider,
    Peer,
    PeerError,
    Process,
    job_of,
    scratch_file_system,
    starter_of,
    working_directory,
)
from ledge.daemon.readings import Readings
from ledge.daemon.receipts import attributes_of
from ledge.daemon.recording import Recording
from ledge.daemon.reservations import Reservation, Reservations
from ledge.daemon.running_job import RunningJob, group_name
from ledge.daemon.sampling import Sampler, settled_usage
from ledge.daemon.server import Request, RequestError, Server
from ledge.daemon.sessions import entry_of
from ledge.daemon.settlement import Settlement, has_populated_leaves
from ledge.daemon.sliceless import sliceless_of, unenforced, without_groups
from ledge.daemon.traffic import NodeTraffic
from ledge.launcher.order import Order, send_entry, send_order
from ledge.limits.enforcement import enforce, give_back
from ledge.log import Log
from ledge.plan.plan import Plan
from ledge.publish.chirp import expression
from ledge.usage.attributes import scratch_attributes, usage_attributes
from ledge.usage.usage import Usage

if TYPE_CHECKING:
    from ledge.classads import Value

# A weight is a wish: few kernels honour it, and a job is none the worse without.
_ADVISORY = ("io.weight", "io_weight")
_FOR_ROOT = ("status", "jobs")
_Answer = Callable[[bool], None]
_VERBS = ("reserve", "launch", "settle", "enter", *_FOR_ROOT)


class Requests:
    """Everything that ledged knows, and its answers."""

    def __init__(
        self,
        orders: socket.socket,
        networks: PrivateNetworks,
        traffic: NodeTraffic,
        log: Log,
        has_slices: bool = True,
    ) -> None:
        self.orders = orders
        self.networks = networks
        self.has_slices = has_slices
        self.traffic = traffic
        self.log = log
        self.started = time.time()
        self.reservations = Reservations(log, has_slices, self._foreseen)
        self.running: dict[tuple[int, int], RunningJob] = {}  # by the identity of the slice
        # Answers with their descriptor, until the launcher has taken the order.
        self.ordered: deque[tuple[Request, bytes, socket.socket]] = deque()
        self.launch_log = LaunchLog(log, self.running)
        self.sampler = Sampler(log)
        self.endings = Endings(self.sampler, log)
        self.readings = Readings()
        self.endings.ended = self.readings.end
        self.counts = dict.fromkeys(_VERBS, 0)
        self.crippled = False

    def attach(self, server: Server, decider: Decider, recording: Recording) -> None:
        """Become part of the server's loop."""
        self.server = server
        self.decider = decider
        self.recording = recording
        self.orders.setblocking(False)
        server.watch(self.orders.fileno(), self._order_taken)
        self.launch_log.attach(server)
        self.sampler.attach(server)
        self.endings.attach(server)
        self.readings.attach(server)
        self.reservations.attach(server, decider, self.handle)
        self.networks.attach(server, self.handle, self.log, self._end)

    def _foreseen(self, starter: Process, plan: Plan) -> str:
        limits = foreseen(starter, plan, self.has_slices, self.traffic.problem)
        return limits or self.networks.foreseen(plan)

    def adopt(self) -> None:
        """Look after the jobs that run already as after those that are launched."""
        for process, job in running_jobs():
            try:
                record = self.recording.begin(job, process.uid, None)
                traffic = self.traffic.of(job.slice)
                running = RunningJob(process.pid, job.slice, self.sampler, traffic, record)
                if process.lives():
                    self._note_running(job, running)
                    self.endings.look(running)
                    self.readings.begin(running, Facts().with_starter(job.starter), found=True)
                    self.log.write(f"the job of the wrapper {process.pid} runs already")
                else:
                    running.close()
            except OSError as error:
                self.log.write(f"the job of the wrapper {process.pid} is left: {error}")
            finally:
                process.close()
                job.close()

    def admit(self, verb: str, length: int, peer: Peer) -> None:
        """Whether the peer may send such a body. Raises RequestError, PeerError."""
        if verb not in _VERBS:
            raise RequestError(f"expected one of {', '.join(_VERBS)}")
        if verb not in _FOR_ROOT and isinstance(peer, Outsider):
            raise PeerError("a process outside of ledged's PID namespace")
        if verb == "reserve":
            starter_of(peer).close()
        elif length:
            raise RequestError(f"{verb} has no body")
        if verb in _FOR_ROOT and peer.uid != 0:
            raise PeerError(f"{verb} is for root")

    def receive(self, request: Request) -> None:
        """Work on a request that has come."""
        self.counts[request.verb] += 1
        self.handle(request)

    def handle(self, request: Request) -> None:
        """Work on it, again if it had to wait; whatever goes wrong is answered."""
        try:
            getattr(self, "_" + request.verb)(request)
        except PeerError as error:
            self._turn_away(request, error)
        except OSError as error:
            self._refuse(request, f"ledged cannot do it: {error}")
        except Exception as error:  # noqa: BLE001  # one job's bad luck must not be every job's
            self._refuse(request, f"internal error: {type(error).__name__}: {error}")

    def _reserve(self, request: Request) -> None:
        self.reservations.reserve(request)

    # ---- launch

    def _launch(self, request: Request) -> None:
        if not self.has_slices:
            self._launch_sliceless(request)
            return
        job = job_of(request.peer, launching=True)
        try:
            reservation = self.reservations.of(job.starter)
            if reservation is None:
                request.answer("unreserved")
            elif reservation.plan is None:
                self._refuse(request, reservation.refusal)
            else:
                self._launch_reserved(request, job, reservation, reservation.plan)
        finally:
            job.close()

    def _launch_sliceless(self, request: Request) -> None:
        """The wrapper follows the job's processes and measures by itself: there is no group."""
        starter, group = sliceless_of(request.peer)
        try:
            reservation = self.reservations.of(starter)
            if reservation is None:
                request.answer("unreserved")
            elif reservation.plan is None:
                self._refuse(request, reservation.refusal)
            else:
                place = starter, group
                self._order_sliceless(request, reservation, without_groups(reservation.plan), place)
        finally:
            starter.close()
            os.close(group)

    def _order_sliceless(
        self, request: Request, reservation: Reservation, plan: Plan, place: tuple[Process, int]
    ) -> None:
        def go(network: LaunchNetwork) -> None:
            attributes = attributes_of(plan, unenforced(plan), network)
            body = _answer_to_launch(plan, b"", network, attributes)
            self._send_order(request, plan, b"", place, body, network)
            self.launch_log.ordered(reservation.name, request.peer.pid, None)

        self._with_network(request, plan, go)

    def _turn_away(self, request: Request, error: PeerError) -> None:
        """The peer is nobody to launch: where the plan says so, its job runs without us."""
        if request.verb == "launch" and self._may_run_without_us(request.peer):
            text = f"process {request.peer.pid} is left to itself: {error}"
            self.log.complain(request.peer.uid, text)
            request.answer("run", str(error).encode("utf-8", "replace"))
        else:
            self._refuse(request, str(error))

    def _may_run_without_us(self, peer: Peer) -> bool:
        try:
            starter = starter_of(peer)
        except (PeerError, OSError):
            return False
        reservation = self.reservations.of(starter)
        starter.close()
        plan = reservation.plan if reservation else None
        return plan is not None and plan.on_failure == "run"

    def _launch_reserved(
        self, request: Request, job: Job, reservation: Reservation, plan: Plan
    ) -> None:
        self._check_alone(job)

        def go(network: LaunchNetwork) -> None:
            self._launch_with(request, job, reservation, plan, network)

        self._with_network(request, plan, go)

    def _with_network(
        self, request: Request, plan: Plan, go: Callable[[LaunchNetwork], None]
    ) -> None:
        """Go on, if the job's network is there; else the request is handled again when it is."""
        network = self.networks.claim(request, plan)
        if network is None:
            return
        try:
            if network.problem and plan.on_failure == "refuse":
                self._refuse(request, network.problem)
            else:
                go(network)
        finally:
            network.close()

    def _launch_with(
        self,
        request: Request,
        job: Job,
        reservation: Reservation,
        plan: Plan,
        network: LaunchNetwork,
    ) -> None:
        scratch = scratch_file_system(job.starter)
        receipt = enforce(job.slice, plan.limits, scratch)
        reservation.note_cpus(job, receipt)
        _, inode = job.identity()
        identity = loopback_identity(plan, inode, request.peer.uid, reservation.parallel_job)
        traffic = self.traffic.begin(job.slice, identity)
        receipt.not_enforced.update(not_apart(plan, traffic.problem))
        lacking = demanded(plan, receipt.not_enforced)
        lacking = {name: why for name, why in lacking.items() if name not in _ADVISORY}
        if lacking and plan.on_failure == "refuse":
            self._refuse(request, cannot_be_enforced(lacking))
            return
        attributes = {
            **attributes_of(plan, receipt, network),
            **scratch_attributes(scratch.type, scratch.counts_writes),
        }
        body = _answer_to_launch(plan, group_name(request.peer.pid), network, attributes)
        starts = reservation.starts
        record = self.recording.begin(job, request.peer.uid, attributes, starts)
        running = RunningJob(request.peer.pid, job.slice, self.sampler, traffic, record)
        self._order(request, job, plan, body, running, network)
        self.readings.begin(running, reservation.facts.with_starter(job.starter))
        self.launch_log.ordered(reservation.name, request.peer.pid, running)

    def _order(
        self,
        request: Request,
        job: Job,
        plan: Plan,
        answer: bytes,
        running: RunningJob,
        network: LaunchNetwork,
    ) -> None:
        """Have the launcher start the job; the answer waits until it has taken the order."""
        place = job.starter, job.scope
        try:
            self._send_order(request, plan, running.name, place, answer, network)
        except OSError:
            running.close()
            raise
        self._note_running(job, running)

    def _send_order(
        self,
        request: Request,
        plan: Plan,
        name: bytes,
        place: tuple[Process, int],
        answer: bytes,
        network: LaunchNetwork,
    ) -> None:
        """The place is the starter, and the scope that the wrapper is in. Raises OSError."""
        peer = request.peer
        starter, scope = place
        execute = working_directory(starter)
        plan = self.networks.furnished(plan, network)
        theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fds = (ours.fileno(), peer.pidfd, peer.proc, scope, *network.descriptors())
        try:
            send_order(self.orders, Order(peer.pid, peer.uid, name, execute, plan, fds))
        except OSError:
            theirs.close()
            raise
        finally:
            ours.close()
        self.ordered.append((request, answer, theirs))

    def _order_taken(self) -> None:
        """The launcher has let go of its end: now the wrapper may have the other one."""
        init = _received(self.orders)
        if not init:
            self._end("the launcher has died")
            return
        request, body, theirs = self.ordered.popleft()
        self.launch_log.taken(request.peer.pid, int(init))
        request.answer("done", body, theirs.detach())

    def _end(self, why: str) -> None:
        """Without its other processes ledged is of no use; condor_master starts all anew."""
        self.log.write(f"{why}; ledged ends, to be started anew")
        self.crippled = self.server.stopping = True

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
        self.endings.await_end(running, lambda: self._wrapper_ended(identity, running))

    def _wrapper_ended(self, identity: tuple[int, int], running: RunningJob) -> None:
        if self.running.get(identity) is running:
            del self.running[identity]
        self.endings.gone(running)

    # ---- enter

    def _enter(self, request: Request) -> None:
        peer = request.peer
        theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            entry, pid = entry_of(peer, self.running.values(), ours.fileno())
            send_entry(self.orders, entry)
        except (OSError, PeerError):
            theirs.close()
            raise
        finally:
            ours.close()
        group = os.fsdecode(entry.group)
        self.log.write(f"process {peer.pid}, user {peer.uid}: a session for the job in {group}")
        self.ordered.append((request, b"%d" % pid, theirs))

    # ---- settle

    def _settle(self, request: Request) -> None:
        job = job_of(request.peer)
        try:
            reservation = self.reservations.of(job.starter)
            if reservation is not None and reservation.jobs is not None:
                give_back(job.slice)
            settlement = Settlement(job.slice, group_name(request.peer.pid))
            running = self.running.get(job.identity())
            if running is not None:  # else it was launched before ledged was started anew
                running.settled = True
                record, sample = running.record, running.sample
            else:
                record, sample = self.recording.begin(job, request.peer.uid, None), None
            traffic = (sample and sample.traffic) or self.traffic.of(job.slice)
        except FileNotFoundError:
            usage = Usage("none")
            usage.miss("all", "the job had no control group of its own")
            request.answer("done", _lines(usage_attributes(usage)))
            return
        finally:
            job.close()

        def answer(empty: bool) -> None:
            usage = settled_usage(settlement.root, sample, traffic)
            body = _lines(usage_attributes(usage))
            if running is not None:
                self.readings.note_last(running, usage)
            record.settled(usage, empty, lambda: request.answer("done", body))

        def failed() -> None:  # then it is read when its wrapper has gone, as one that is killed
            if running is None:
                record.close()
            else:
                running.settled = False

        self._continue(request, settlement, answer, failed)

    def _continue(
        self, request: Request, settlement: Settlement, answer: _Answer, failed: Callable[[], None]
    ) -> None:
        """Answer when the job's last process has gone. Its group is removed after the reading."""
        try:
            empty = settlement.empty()
            if empty or settlement.late():
                answer(empty)
                self.endings.remove(settlement)
                return
        except OSError as error:
            settlement.close()
            failed()
            self._refuse(request, f"cannot read the control group: {error.strerror}")
            return
        again = partial(self._continue, request, settlement, answer, failed)
        self.server.later(PAUSE_SECONDS, again)

    # ---- status

    def _status(self, request: Request) -> None:
        running = [described(one, self.reservations) for one in self.running.values()]
        status = {
            "version": __version__,
            "started": int(self.started),
            "reservations": len(self.reservations),
            "jobs": len(self.running),
            "running": [one for one in running if one is not None],
            "connections": len(self.server.connections),
            "requests": self.counts,
            "policy": self.decider.policy,
            "policy_problem": self.decider.problem,
            "network_problem": self.traffic.problem,
            "private_networks": self.networks.status(),
            "recording": self.recording.status(),
            "endings": self.endings.status(),
        }
        request.answer("done", json.dumps(status).encode())

    def _jobs(self, request: Request) -> None:
        self.readings.answer(request)

    def _refuse(self, request: Request, reason: str) -> None:
        peer = request.peer
        text = f"{request.verb} of process {peer.pid}, user {peer.uid}: refused: {reason}"
        self.log.complain(peer.uid, text)
        request.answer("refused", reason.encode("utf-8", "replace"))


def _received(orders: socket.socket) -> bytes:
    try:
        return orders.recv(16)
    except ConnectionError:
        return b""


def _answer_to_launch(
    plan: Plan, group: bytes, network: LaunchNetwork, attributes: Mapping[str, Value]
) -> bytes:
    """Before the attributes: what the wrapper is to do if the launcher fails, the name of the
    group, which it may not know (its own PID is another in a PID namespace), and whether init will
    send it something for the job's network.
    """
    words = [plan.on_failure.encode(), group, *network.words()]
    return b" ".join(words) + b"\n" + _lines(attributes)


def _lines(attributes: Mapping[str, Value]) -> bytes:
    lines = [f"{name} = {expression(value)}\n" for name, value in attributes.items()]
    return "".join(lines).encode("utf-8", "replace")
