"""condor_ledge enter: a shell, or any command, inside a job that runs on this node; for root.

It runs as the job's user in all the job's namespaces and in its control group, with the environment
and in the working directory of the job's first process: limits hold for it, and what it uses is
charged to the job. It dies with the job. Its descriptors are a terminal of the job's own, or pipes.
The exit status is the command's own, by signal too; 125 if it was not started.
"""

from __future__ import annotations

import _socket
import argparse
import os
import posix
import sys
from errno import EAGAIN

from ledge.cli.running import RunningJob, running_jobs, the_job
from ledge.client import SOCKET
from ledge.entering.place import Place
from ledge.entering.process import Command, start
from ledge.entering.relay import Relay
from ledge.errors import CommandError, LedgeError
from ledge.job.inheritance import hold_signals
from ledge.wrapper.monitor import end_as, isolation_error

_SHELLS = ("/bin/bash", "/bin/sh")
_ROOT = [b"PATH=/usr/sbin:/usr/bin:/sbin:/bin", b"HOME=/root", b"USER=root", b"LOGNAME=root"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the command line."""
    parser = subparsers.add_parser(
        "enter", help="a shell inside a job that runs here", description=__doc__
    )
    parser.add_argument("--root", action="store_true", help="as root, with root's environment")
    words = "let the command trace the job (gdb, strace); docs/processes.md has what that opens"
    parser.add_argument("--trace", action="store_true", help=words)
    parser.add_argument("--socket", default=SOCKET, metavar="PATH")
    parser.add_argument("job", metavar="SLOT|JOBID", help="a job, as 12.3, or a slot, as slot1_1")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND ...")
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Run the command and end as it does. Raises LedgeError."""
    if posix.geteuid() != 0:
        raise LedgeError("this is for root", "condor_ssh_to_job is for the job's owner")
    job = the_job(running_jobs(options.socket), options.job)
    if job.init is None:
        raise LedgeError(f"{job} has not begun, or has ended")
    command = Command(_argv(options.command), None)
    command.as_root, command.traces = options.root, options.trace
    has_terminal = os.isatty(0) and os.isatty(1)
    try:
        place = Place(job.init, job.wrapper, job.uid, job.slice)
        environ = [*_ROOT] if command.as_root else place.environ()
    except (OSError, KeyError, ValueError) as error:
        raise LedgeError(f"{job} has changed or ended meanwhile: {error}") from None
    if command.as_root and place.own_user_namespace:
        raise LedgeError("the job is in a user namespace, where nobody is root", "without --root")
    if has_terminal:
        _tell(job, command)
    _run(place, command, _with_terminal(environ) if has_terminal else environ)
    raise AssertionError("end_as() does not return")


def _argv(words: list[str]) -> list[bytes]:
    words = words[1:] if words[:1] == ["--"] else words
    if not words:  # the job's /bin is the node's, or the starter's root directory for it
        words = [next(filter(os.path.exists, _SHELLS), _SHELLS[-1])]
    return [os.fsencode(word) for word in words]


def _tell(job: RunningJob, command: Command) -> None:
    who = "root" if command.as_root else job.owner()
    text = f"{job}: you are {who}. PIDs are the job's own; what you use is charged to it, and when "
    print(f"{text}it ends you are killed.", file=sys.stderr)


def _run(place: Place, command: Command, environ: list[bytes]) -> None:
    hold_signals()
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    relay = Relay(ours)
    relay.terminal = os.isatty(0) and os.isatty(1)
    pipes = () if relay.terminal else _connect(relay, command)
    try:
        start(place, command, environ, theirs)
    except OSError as error:
        full = error.errno == EAGAIN
        why = "it has all the processes it may have" if full else error.strerror
        raise LedgeError(f"no process can be started in the job's group: {why}") from None
    theirs.close()
    for fd in pipes:
        os.close(fd)
    relay.run()
    if relay.ended_by is not None:
        end_as(relay.ended_by)
    _check(relay, command)
    end_as(relay.report.status or 0)


def _connect(relay: Relay, command: Command) -> tuple[int, ...]:
    """Pipes for the command; the ends that are the command's."""
    (into, ours), (out, to_out), (err, to_err) = os.pipe(), os.pipe(), os.pipe()
    command.streams = into, to_out, to_err
    relay.connect(ours, {out: 1, err: 2})
    return into, to_out, to_err


def _with_terminal(environ: list[bytes]) -> list[bytes]:
    others = [entry for entry in environ if not entry.startswith(b"TERM=")]
    return [*others, b"TERM=" + os.environb.get(b"TERM", b"dumb")]


def _check(relay: Relay, command: Command) -> None:
    """Raises LedgeError if the command was not started."""
    told = relay.report
    if told.failed_step is not None:
        raise isolation_error(told.failed_step, told.errno)
    if told.exec_errno is not None:
        name = os.fsdecode(command.argv[0])
        raise CommandError(f"{name}: {os.strerror(told.exec_errno)}", told.exec_errno)
