"""condor_ledge ps: the processes of the jobs that run on this node, with both their PIDs; for root.

A job in a PID namespace has other PIDs than the node: what its logs call 3 is another process
outside. PID is the node's, IN JOB the job's own; "-" is for a process that the job does not see,
as its wrapper. A process chooses its own command line; the rest is the kernel's word. HTCondor in
a PID namespace of its own has a third number in its logs, which is told of wrapper and init.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from ledge.cli.running import JobProcess, RunningJob, processes_of, running_jobs, the_job
from ledge.client import SOCKET
from ledge.errors import LedgeError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the command line."""
    parser = subparsers.add_parser("ps", help="which process is which job's", description=__doc__)
    words = "a job that runs here, as 12.3, or its slot, as slot1_1; default: all"
    parser.add_argument("job", nargs="?", metavar="SLOT|JOBID", help=words)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--pid", type=int, metavar="N", help="the process with this PID on the node")
    which.add_argument("--inside", type=int, metavar="N", help="that with this PID in the job")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--socket", default=SOCKET, metavar="PATH")
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Print the processes; 1 if there is none of the PID that was asked for. Raises LedgeError."""
    jobs = running_jobs(options.socket)
    if options.job is not None:
        jobs = [the_job(jobs, options.job)]
    elif options.inside is not None:
        raise LedgeError("--inside is a PID in one job", "condor_ledge ps SLOT|JOBID --inside N")
    found = [(job, _wanted(job, options)) for job in jobs]
    if options.pid is not None or options.inside is not None:
        found = [(job, processes) for job, processes in found if processes]
    if options.json:
        print(json.dumps([_as_json(job, processes) for job, processes in found], indent=2))
    elif found:
        print("\n\n".join([table(job, processes) for job, processes in found]))
    if found or (options.pid is None and options.inside is None):
        return 0
    print("condor_ledge ps: no job that ledged started has such a process", file=sys.stderr)
    return 1


def _wanted(job: RunningJob, options: argparse.Namespace) -> list[JobProcess]:
    return [
        process
        for process in processes_of(job)
        if options.pid in (None, process.pid) and options.inside in (None, process.within)
    ]


def table(job: RunningJob, processes: list[JobProcess]) -> str:
    """A line on the job, and one for each process."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.started))
    init = "no init yet" if job.init is None else f"init {job.init}{_logged(job.logged_init)}"
    wrapper = f"wrapper {job.wrapper}{_logged(job.logged_wrapper)}"
    lines = [f"{job}, since {since}, {wrapper}, {init}"]
    lines.append(f"{'PID':>10} {'IN JOB':>7} STATE {'CPU':>9} {'RSS':>10}  COMMAND")
    for process in processes:
        within = "-" if process.within is None else process.within
        cpu, rss = _duration(process.cpu_seconds), f"{process.rss_bytes / (1 << 20):.1f} MiB"
        command = "".join([c if c.isprintable() else "?" for c in process.command])
        start = f"{process.pid:>10} {within:>7} {process.state:<5} {cpu:>9} {rss:>10}"
        lines.append(f"{start}  {command}")
    return "\n".join(lines)


def _logged(pid: object) -> str:
    """What HTCondor's logs call it, where that is something else."""
    return "" if pid is None else f" ({pid} in HTCondor's logs)"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:05.2f}"


def _as_json(job: RunningJob, processes: list[JobProcess]) -> dict[str, object]:
    return {**job.told, "owner": job.owner(), "processes": [vars(one) for one in processes]}
