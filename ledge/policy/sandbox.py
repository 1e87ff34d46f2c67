"""The evaluator: the process in which hostile ads meet classad2, a library in C++.

It has no privileges, no descriptors but two sockets, and no secrets. Every request is decided in a
child of its own, which may use 2 s and 256 MB, can neither open nor start anything, and answers
through a pipe. Whatever happens to that child is a refusal of the one job that it was about.
"""

from __future__ import annotations

import gc
import mmap
import os
import resource
import select
import signal
import socket
import sys
import time
from typing import NamedTuple

from ledge.kernel.descriptors import release_descriptors
from ledge.kernel.syscalls import (
    PR_SET_DUMPABLE,
    PR_SET_NAME,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    close_range,
    prctl,
)
from ledge.policy.decision import Decision, decide, refusal
from ledge.policy.document import read_policy
from ledge.policy.errors import PolicyError
from ledge.policy.expressions import load_library
from ledge.policy.model import Policy, built_in_policy
from ledge.policy.terms import terms_of, written_terms
from ledge.policy.wire import (
    LARGEST_ANSWER,
    Request,
    packed_answer,
    packed_text,
    take_policy,
    take_request,
    written_decision,
)

LONGEST_SECONDS = 2.0  # of CPU time: a busy node must not refuse a job for it
_LONGEST_WAIT_SECONDS = 20.0  # less than hooks wait (ledge/client.py)
MOST_AT_ONCE = 8

_MEMORY_BYTES = 256 << 20
_POSITION_BYTES = 512
_CHUNK = 1 << 18
_MOST_TO_SEND = 1 << 20
_PIPE = 3

_TOO_LONG = f"does not end within {LONGEST_SECONDS:g} s of CPU time"
_TOO_LATE = f"does not end within {_LONGEST_WAIT_SECONDS:g} s"
_TOO_MUCH = f"takes more than {_MEMORY_BYTES >> 20} MB of memory"
_CRASH = "crashes the ClassAd library, as what is nested too deeply does"
_NO_ANSWER = "ended without an answer"
_REMEDY = (
    "look for regular expressions, lists and attributes that refer to each other, in the job ad "
    "first and then in this node's policy"
)


def serve(data: socket.socket, control: socket.socket, uid: int, gid: int) -> None:
    """Be the evaluator, until a socket is closed. Does not return."""
    try:
        os.chdir("/")
        prctl(PR_SET_NAME, b"ledged-policy\0")
        release_descriptors((data.fileno(), control.fileno()))
        _reset_signals()
        try:
            _prepare()
            _drop_privileges(uid, gid)
        except (PolicyError, OSError) as error:
            control.sendall(packed_text(f"the evaluator cannot run: {error}"))
            return
        control.sendall(packed_text(""))
        _Server(data, control).run()
    finally:
        try:
            failure = sys.exc_info()[1]
            if failure is not None:  # an error in these modules: the last words are for the log
                control.sendall(packed_text(f"it failed: {failure!r}"))
        finally:
            os._exit(0)


def _reset_signals() -> None:
    """As in a new process, but for what is sent to a whole group: the daemon's end is ours."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _prepare() -> None:
    """Import and use everything once: the user to come may not be able to read the modules."""
    load_library()
    policy = read_policy(b"version: 1\ndefaults: {pids_max: TARGET.A}", "policy")
    written_decision(decide(policy, b"A = 1", b""))


def _drop_privileges(uid: int, gid: int) -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    # Another process of that user can neither trace it nor read its memory.
    prctl(PR_SET_DUMPABLE, 0)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _Evaluation(NamedTuple):
    """A request that a child is deciding; `position` is memory in which it says where it is."""

    token: int
    pid: int
    deadline: float
    position: mmap.mmap
    answer: bytearray


class _Server:
    """Reads requests, has at most MOST_AT_ONCE decided at a time, and passes the answers on."""

    def __init__(self, data: socket.socket, control: socket.socket) -> None:
        self.data = data
        self.control = control
        self.policy: Policy = built_in_policy()
        self.received = bytearray()
        self.received_control = bytearray()
        self.to_send = bytearray()
        self.evaluations: dict[int, _Evaluation] = {}
        self.open = True
        self.memory = _address_space_bytes() + _MEMORY_BYTES
        data.setblocking(False)

    def run(self) -> None:
        """Until the other end of either socket is closed."""
        gc.collect()
        gc.freeze()  # so that the children do not copy what they only look at
        while self.open:
            for fd, event in self.wait():
                if event & (select.POLLERR | select.POLLHUP) and fd not in self.evaluations:
                    self.open = False
                elif fd == self.data.fileno():
                    self.send()
                    self.receive()
                elif fd == self.control.fileno():
                    self.receive_control()
                else:
                    self.read_answer(fd)
            self.end_overdue()
            self.start_evaluations()
        for evaluation in self.evaluations.values():
            os.kill(evaluation.pid, signal.SIGKILL)

    def wait(self) -> list[tuple[int, int]]:
        """The descriptors at which something can be done, and what."""
        poll = select.poll()
        listening = 0 if self.busy() else select.POLLIN
        poll.register(self.data, listening | (select.POLLOUT if self.to_send else 0))
        poll.register(self.control, select.POLLIN)
        for fd in self.evaluations:
            poll.register(fd, select.POLLIN)
        deadlines = [evaluation.deadline for evaluation in self.evaluations.values()]
        timeout = max(min(deadlines) - time.monotonic(), 0) * 1000 + 1 if deadlines else None
        return poll.poll(timeout)

    def busy(self) -> bool:
        """Whether further requests have to wait."""
        return len(self.evaluations) >= MOST_AT_ONCE or len(self.to_send) > _MOST_TO_SEND

    def send(self) -> None:
        try:
            if self.to_send:
                del self.to_send[: self.data.send(self.to_send)]
        except BlockingIOError:
            pass
        except OSError:
            self.open = False

    def receive(self) -> None:
        if self.busy():
            return
        try:
            chunk = self.data.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        self.received += chunk
        self.open = self.open and bool(chunk)

    def receive_control(self) -> None:
        """A policy to be put in force, if it is one; the answer is what is wrong with it."""
        chunk = self.control.recv(_CHUNK)
        self.received_control += chunk
        self.open = self.open and bool(chunk)
        message = take_policy(self.received_control)
        if message is None:
            return
        document, origin = message
        try:
            self.policy = built_in_policy() if document is None else read_policy(document, origin)
            answer = "=" + written_terms(terms_of(self.policy))
        except PolicyError as error:
            answer = _first_of(error.errors)
        gc.collect()
        gc.freeze()
        self.control.sendall(packed_text(answer))

    def start_evaluations(self) -> None:
        while not self.busy():
            request = take_request(self.received)
            if request is None:
                return
            self.start(request)

    def start(self, request: Request) -> None:
        hear, tell = os.pipe()
        position = mmap.mmap(-1, _POSITION_BYTES)
        deadline = time.monotonic() + _LONGEST_WAIT_SECONDS
        try:
            pid = os.fork()
        except OSError as error:
            os.close(hear)
            os.close(tell)
            self.answer(request.token, refusal(f"the evaluator cannot fork: {error.strerror}"))
            return
        if pid == 0:
            _decide(self.policy, request, tell, position, self.memory)
        os.close(tell)
        self.evaluations[hear] = _Evaluation(request.token, pid, deadline, position, bytearray())

    def read_answer(self, fd: int) -> None:
        evaluation = self.evaluations[fd]
        chunk = os.read(fd, _CHUNK)
        evaluation.answer.extend(chunk)
        if not chunk or len(evaluation.answer) > LARGEST_ANSWER:
            self.end(fd, "")

    def end_overdue(self) -> None:
        now = time.monotonic()
        for fd, evaluation in list(self.evaluations.items()):
            if evaluation.deadline <= now:
                self.end(fd, _TOO_LATE)

    def end(self, fd: int, problem: str) -> None:
        """Take the child away and pass on what it said, or what became of it."""
        evaluation = self.evaluations.pop(fd)
        os.close(fd)
        os.kill(evaluation.pid, signal.SIGKILL)  # also one that has closed the pipe and goes on
        _, status = os.waitpid(evaluation.pid, 0)
        if not problem and os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            self.to_send += packed_answer(evaluation.token, bytes(evaluation.answer))
        else:
            where = _text_at(evaluation.position)
            problem = problem or _problem(status)
            self.answer(evaluation.token, refusal(f"{where}: {problem}; {_REMEDY}"))
        evaluation.position.close()

    def answer(self, token: int, decision: Decision) -> None:
        self.to_send += packed_answer(token, written_decision(decision))


def _text_at(position: mmap.mmap) -> str:
    return position[:].rstrip(b"\0").decode("utf-8", "replace")


def _address_space_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _first_of(errors: tuple[str, ...]) -> str:
    others = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return errors[0] + others


def _problem(status: int) -> str:
    if not os.WIFSIGNALED(status):
        return _NO_ANSWER
    return _TOO_LONG if os.WTERMSIG(status) == signal.SIGXCPU else _CRASH


def _decide(
    policy: Policy, request: Request, tell: int, position: mmap.mmap, memory: int
) -> None:
    """The child: decide, answer through the pipe, and end. Does not return."""
    status = 1
    try:
        gc.disable()
        _confine(tell, memory)

        def progress(where: str) -> None:
            text = where.encode("utf-8", "replace")[:_POSITION_BYTES]
            position[:] = text.ljust(_POSITION_BYTES, b"\0")

        try:
            decision = decide(policy, request.job_ad, request.machine_ad, progress)
        except MemoryError:
            decision = refusal(f"{_text_at(position)}: {_TOO_MUCH}; {_REMEDY}")
        answer = written_decision(decision)
        while answer:
            answer = answer[os.write(_PIPE, answer) :]
        status = 0
    finally:
        os._exit(status)


def _confine(pipe: int, memory: int) -> None:
    """Nothing is open but the standard streams and the pipe, and nothing is to be had."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.dup2(pipe, _PIPE)
    close_range(_PIPE + 1, 0xFFFFFFFF)
    for limit, value in (
        (resource.RLIMIT_NOFILE, 0),  # a number that no new descriptor is below
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_AS, memory),
    ):
        resource.setrlimit(limit, (value, value))
    seconds = int(LONGEST_SECONDS)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))  # SIGXCPU, then SIGKILL
