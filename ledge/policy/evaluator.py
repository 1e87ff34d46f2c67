"""The daemon's end of the evaluator: requests go out, decisions come in, and nothing is waited for.

    evaluator = Evaluator("/etc/condor-ledge/policy.yaml", report=log.write)
    evaluator.submit(token, job_ad, machine_ad)
    # whenever evaluator.fileno() is readable:
    for token, decision in evaluator.receive(): ...

Every request gets one decision, whatever happens: if the process dies it is started anew, and what
it had not answered is asked once more, then refused. The policy file is read here and not there,
since it may be readable by root alone.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from typing import Callable

from ledge.policy import sandbox
from ledge.policy.decision import Decision, refusal
from ledge.policy.errors import PolicyError
from ledge.policy.expressions import LARGEST_AD
from ledge.policy.terms import Terms, read_terms
from ledge.policy.tree import MAXIMUM_BYTES
from ledge.policy.wire import Request, packed_policy, read_decision, take_answer, take_text

NOBODY = 65534
LARGEST_BACKLOG = 64 << 20

_MOST_ATTEMPTS = 2
_PATIENCE_SECONDS = 20.0  # for a new policy, which waits its turn behind what is being decided
_PAUSE_SECONDS = 5.0  # before a process that will not live is started once more
_MOST_RESTARTS = 10  # within that time
_END_MILLISECONDS = 2000
_CHUNK = 1 << 18
_NOT_RUNNING = "the evaluator of this node's policy is not running"
_NOT_RUNNING_REMEDY = "the log of ledged says why"
_FORGED = "a decision has a mount that this node's policy has not"
_FAILED_TWICE = "the evaluator of this node's policy has died over it twice"


class NotRunningError(PolicyError):
    """There is no process, whatever the policy says; it may be had later."""


class _Waiting:
    """A request that has not been answered, what it was made under, and how often."""

    __slots__ = ("attempts", "message", "terms")

    def __init__(self, message: bytes, terms: Terms) -> None:
        self.message = message
        self.terms = terms
        self.attempts = 1


class Evaluator:
    """A process that decides by a policy, and the requests that it has not answered yet.

    `terms` are those of the policy in force; `died` says that there is no process, and that every
    request will be refused.
    """

    def __init__(
        self,
        policy_path: str,
        uid: int = NOBODY,
        gid: int = NOBODY,
        report: Callable[[str], object] = lambda line: None,
    ) -> None:
        """Start the process, as that user if this is root's. Raises PolicyError.

        It is forked: before there are threads, or secrets in memory. `report` is told when it has
        to be started anew.
        """
        self.policy_path = policy_path
        self.died = True
        self.terms = Terms("hold", ())
        self._uid, self._gid = uid, gid
        self._report = report
        self._document = read_file(policy_path)
        self._waiting: dict[int, _Waiting] = {}
        self._refused: list[tuple[int, Decision]] = []
        self._to_send = bytearray()
        self._received = bytearray()
        self._restarts: list[float] = []
        self._not_before = 0.0
        # One descriptor for good, with the socket and, while there are refusals, an alarm in it.
        self._poll = select.epoll()
        self._alarm, other = socket.socketpair()
        other.close()
        self._data = self._control = other
        self._pid = self._pidfd = -1
        try:
            self._start()
        except PolicyError:
            self.close()
            raise

    def _start(self) -> None:
        try:
            self._fork()
        except OSError as error:
            raise NotRunningError(f"no process can be started: {error.strerror}") from None
        self.died = False
        self._to_send.clear()
        self._received.clear()
        problem = self._answer() or self._load(self._document)
        if problem:
            self._end()
            raise NotRunningError(problem) if problem == _NOT_RUNNING else PolicyError(problem)

    def _fork(self) -> None:
        self._data, data = socket.socketpair()
        self._poll.register(self._data, select.EPOLLIN)
        self._control, control = socket.socketpair()
        with data, control:
            self._pid = os.fork()
            if self._pid == 0:
                sandbox.serve(data, control, self._uid, self._gid)
        # Not the PID, which is another process's when somebody else has reaped this one.
        self._pidfd = os.pidfd_open(self._pid)
        self._data.setblocking(False)

    def fileno(self) -> int:
        """What to wait at for receive(), until it is readable; the same one at all times."""
        return self._poll.fileno()

    @property
    def pid(self) -> int:
        """The process."""
        return self._pid

    @property
    def pending(self) -> bool:
        """Whether something is left to send, which receive() will do when there is room."""
        return bool(self._to_send) and not self.died

    def submit(self, token: int, job_ad: bytes, machine_ad: bytes) -> None:
        """Ask for a decision, which receive() will give under the token (below 2**64)."""
        if token in self._waiting:
            raise ValueError(f"the token {token} is in use")
        if self.died and time.monotonic() >= self._not_before:
            self.restart()
        message = Request(token, job_ad, machine_ad).packed()
        problem = self._problem(job_ad, machine_ad)
        if problem:
            self._refuse(token, problem)
            return
        self._waiting[token] = _Waiting(message, self.terms)
        self._to_send += message
        self.flush()

    def _problem(self, job_ad: bytes, machine_ad: bytes) -> str:
        """Why a request is not even made; an empty text if it is."""
        for name, ad in (("job", job_ad), ("machine", machine_ad)):
            if len(ad) > LARGEST_AD:
                return f"the {name} ad has {len(ad)} bytes; this node reads at most {LARGEST_AD}"
        backlog = sum(len(waiting.message) for waiting in self._waiting.values())
        if backlog + len(job_ad) + len(machine_ad) > LARGEST_BACKLOG:
            return "too many jobs wait for a decision of this node's policy; it can be tried again"
        return f"{_NOT_RUNNING}; {_NOT_RUNNING_REMEDY}" if self.died else ""

    def _refuse(self, token: int, text: str) -> None:
        if not self._refused:
            self._poll.register(self._alarm, 0)  # its other end is closed: that shows at once
        self._refused.append((token, refusal(text)))

    def flush(self) -> None:
        """Send what can be sent without waiting."""
        try:
            while self.pending:
                del self._to_send[: self._data.send(self._to_send)]
        except BlockingIOError:
            pass
        except OSError:
            return  # it has died; receive() will find out, and the descriptor is readable
        if not self.died:
            writing = select.EPOLLOUT if self._to_send else 0
            self._poll.modify(self._data, select.EPOLLIN | writing)

    def receive(self) -> list[tuple[int, Decision]]:
        """The decisions that have come in, without waiting."""
        if not self.died:
            self.flush()
            alive = self._read()
            decisions = self._decisions()
            if not alive or self.died:
                self.restart()
        else:
            decisions = []
        if self._refused:
            self._poll.unregister(self._alarm)
            decisions += self._refused
            self._refused = []
        return decisions

    def _read(self) -> bool:
        """Read what is there; False if the process has gone."""
        try:
            while chunk := self._data.recv(_CHUNK):
                self._received += chunk
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def _decisions(self) -> list[tuple[int, Decision]]:
        decisions = []
        try:
            while (answer := take_answer(self._received)) is not None:
                token, text = answer
                waiting = self._waiting.pop(token, None)
                if waiting is not None:
                    decisions.append((token, self._checked(read_decision(text), waiting)))
        except ValueError:
            self.died = True  # it does not speak as it should
        return decisions

    def _checked(self, decision: Decision, waiting: _Waiting) -> Decision:
        """The decision if the policy can have made it: the old one too, if it has changed since."""
        plan = decision.plan
        if plan is None or not self.terms.forged(plan) or not waiting.terms.forged(plan):
            return decision
        self._report(f"{_FORGED}; somebody may have found a fault in the ClassAd library")
        return refusal(f"{_FORGED}; {_NOT_RUNNING_REMEDY}")

    def reload(self) -> str | None:
        """Read the policy file anew; what is wrong with it, in which case the old one stays.

        Waits until the process has read the requests that were sent before, 20 s at most.
        """
        if self.died:
            self.restart()
        if self.died:
            return _NOT_RUNNING
        try:
            document = read_file(self.policy_path)
        except PolicyError as error:
            return str(error)
        problem = self._load(document)
        if problem:
            return problem
        self._document = document
        return None

    def _load(self, document: bytes | None) -> str:
        """Put a policy in force; what is wrong with it, or an empty text."""
        self._control.settimeout(_PATIENCE_SECONDS)
        try:
            self._control.sendall(packed_policy(document, self.policy_path))
        except OSError:
            return self._give_up()
        answer = self._answer()
        if not answer.startswith("="):
            return answer
        try:
            self.terms = read_terms(answer[1:])
        except ValueError:
            return self._give_up()
        return ""

    def _answer(self) -> str:
        """The next text on the control socket."""
        self._control.settimeout(_PATIENCE_SECONDS)
        received = bytearray()
        while (text := take_text(received)) is None:
            try:
                chunk = self._control.recv(_CHUNK)
            except OSError:
                chunk = b""
            if not chunk:
                return self._give_up()
            received += chunk
        return text

    def _give_up(self) -> str:
        """Have receive() find that the process has gone, one that hangs included."""
        self._data.shutdown(socket.SHUT_RDWR)
        return _NOT_RUNNING

    def restart(self) -> None:
        """Start the process anew with the policy that was in force; receive() does it by itself."""
        why = self._last_words()
        self._report(f"the evaluator of the policy has died and is started anew{why}")
        self._end()
        most, why = _MOST_ATTEMPTS, f"{_FAILED_TWICE}; {_NOT_RUNNING_REMEDY}"
        try:
            self._start_again()
        except PolicyError as error:
            most, why = 0, f"{_NOT_RUNNING}: {error}; {_NOT_RUNNING_REMEDY}"
            self._report(f"it cannot be started: {error}")
        for token, waiting in list(self._waiting.items()):
            waiting.attempts += 1
            if waiting.attempts > most:
                del self._waiting[token]
                self._refuse(token, why)
            else:
                self._to_send += waiting.message
        self.flush()

    def _last_words(self) -> str:
        try:
            self._control.settimeout(0)
            words = take_text(bytearray(self._control.recv(_CHUNK)))
        except OSError:
            return ""
        return f": {words}" if words else ""

    def _start_again(self) -> None:
        now = time.monotonic()
        self._not_before = now + _PAUSE_SECONDS
        self._restarts = [then for then in self._restarts if then > now - _PAUSE_SECONDS] + [now]
        if len(self._restarts) > _MOST_RESTARTS:
            raise PolicyError(f"it has died {_MOST_RESTARTS} times within {_PAUSE_SECONDS:g} s")
        self._start()

    def close(self) -> None:
        """End the process; what it has not answered is never answered."""
        self._end()
        self._poll.close()
        self._alarm.close()
        self._waiting.clear()

    def _end(self) -> None:
        self.died = True
        if self._data.fileno() >= 0:
            self._poll.unregister(self._data)
        self._data.close()  # which ends it by itself
        self._control.close()
        if self._pidfd < 0:
            return
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        except OSError:
            pass  # dead, or this is a daemon without the right to kill what belongs to others
        ended = select.poll()
        ended.register(self._pidfd, select.POLLIN)
        ended.poll(_END_MILLISECONDS)
        try:
            os.waitpid(self._pid, os.WNOHANG)
        except ChildProcessError:
            pass  # the daemon reaps its children by itself
        os.close(self._pidfd)
        self._pidfd = -1


def read_file(path: str) -> bytes | None:
    """The bytes of a policy file; None if there is none. Raises PolicyError."""
    try:
        with open(path, "rb") as file:
            return file.read(MAXIMUM_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PolicyError(f"{path}: cannot read it: {error.strerror}") from None
