"""The case of 2011: a job leaves a daemon behind that works on, uncounted, and obeys anybody.

MPICH's MPD was such a daemon. The same job runs under HTCondor without control groups (as it was
in 2011), under HTCondor as it is, and under condor-ledge, while another user looks for a way in.
MOUNT_UNDER_SCRATCH is empty in all three: what makes /tmp private is condor-ledge or nothing.

    for setting in SETTINGS:
        observations.append(observe(pool, setting))
    print(table(observations))
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, NamedTuple

from tests.pool.condor import CONFIG_DIRECTORY, Pool
from tests.pool.job import Job, Submission
from tests.pool.machine import Result

PROGRAMS = Path(__file__).resolve().parent / "mpd"
CONFIGURATION_FILE = f"{CONFIG_DIRECTORY}/99-test-mpd-case.conf"

# What mpd burns after the job's main process, and before, at least.
CPU_SECONDS_AFTER = 2
CPU_SECONDS_BEFORE = 2.0
WATCH_SECONDS = 90
AFTER_SECONDS = 5

WIDTH = 80
LABEL_WIDTH = 35

BASE = "MOUNT_UNDER_SCRATCH =\n"
WITHOUT_LEDGE = BASE + "USER_JOB_WRAPPER =\nSTARTER_DEFAULT_JOB_HOOK_KEYWORD =\n"

# Arguments: the submit directories of alice's job and of bob's.
AWAIT_BOTH = r"""
until [ -e "$0/worker.json" ] && [ -e "$1/here" ]; do sleep 0.1; done
touch "$1/look"
"""
AWAIT_ENOUGH = r"""
before() { sed 's/.*"before": \([0-9]*\).*/\1/' "$0/worker.json"; }
until [ -s "$1/output.0" ] && [ "$(before)" -ge SECONDS ]; do sleep 0.1; done
touch "$0/enough"
""".replace("SECONDS", f"{CPU_SECONDS_BEFORE:.0f}")


class Setting(NamedTuple):
    """A configuration of the execute node; `title` are two lines for the head of the table."""

    title: tuple[str, str]
    configuration: str


CGROUPS_OFF = Setting(("HTCondor,", "cgroups off"), WITHOUT_LEDGE + "BASE_CGROUP =\n")
HTCONDOR = Setting(("HTCondor", "alone"), WITHOUT_LEDGE)
LEDGE = Setting(("HTCondor with", "condor-ledge"), BASE + "LEDGE_ENABLED = True\n")
SETTINGS = (CGROUPS_OFF, HTCONDOR, LEDGE)


class Observation(NamedTuple):
    """What was seen of one run.

    `from_node` and `from_job` are the intruder's lines, `processes` the users of the processes
    that the job saw, `worker` the worker's account of its CPU seconds before and after the end of
    the job's main process, `watch` what root saw, `ad` the job ad from condor_history.
    """

    setting: Setting
    from_node: list[str]
    from_job: list[str]
    processes: list[str]
    worker: dict[str, float]
    watch: dict[str, Any]
    ad: dict[str, Any]

    def remote_cpu_seconds(self) -> float:
        return float(self.ad.get("RemoteUserCpu", 0) + self.ad.get("RemoteSysCpu", 0))

    def ledge_cpu_seconds(self) -> float | None:
        """None where the ad has no such attributes."""
        names = ("ChirpLedgeCpuUserSeconds", "ChirpLedgeCpuSystemSeconds")
        values = [self.ad[name] for name in names if name in self.ad]
        return float(sum(values)) if len(values) == len(names) else None

    def sampled_cpu_seconds(self, group: str) -> float | None:
        """What the kernel counted at the last look before the end, for the "slot" (with what
        starts the job) or for the job's "own" group; None where there was none.
        """
        usec = self.watch[f"{group}_usage_usec"]
        return None if usec is None else usec / 1e6


def observe(pool: Pool, setting: Setting, keep_environment: bool = False) -> Observation:
    """Run the case under one setting; nothing of it is left in the guest afterwards."""
    keep = " keep" if keep_environment else ""
    files = {name: (PROGRAMS / name).read_bytes() for name in ("mpd", "mpd_job", "intruder")}
    alice = f"executable = mpd_job\narguments = {CPU_SECONDS_AFTER}{keep}\n"
    bob = "executable = intruder\narguments = job\n"
    submissions = [
        Submission(alice, "alice", "mpd", {name: files[name] for name in ("mpd", "mpd_job")}),
        Submission(bob, "bob", "intruder", {"intruder": files["intruder"]}),
    ]
    with _configured(pool, setting), ThreadPoolExecutor(1) as executor:
        watch = executor.submit(_watch, pool)
        mpd, intruder = pool.submit_all(submissions)
        try:
            return _observe(pool, setting, (mpd, intruder), watch)
        finally:
            _clear(pool)


def _observe(
    pool: Pool, setting: Setting, jobs: tuple[Job, Job], watch: Future[Result]
) -> Observation:
    mpd, intruder = jobs
    places = shlex.join([mpd.directory, intruder.directory])
    pool.root(f"sh -c {shlex.quote(AWAIT_BOTH)} {places}", timeout=60)
    from_node = pool.run_as("bob", f"{intruder.directory}/intruder").stdout.splitlines()
    pool.root(f"sh -c {shlex.quote(AWAIT_ENOUGH)} {places}", timeout=60)
    mpd.wait("terminated")
    pool.root(f"touch {intruder.directory}/enough")
    seen = json.loads(watch.result().stdout)
    intruder.wait("terminated")
    return Observation(
        setting,
        from_node,
        intruder.output().decode().splitlines(),
        [line.split()[0] for line in mpd.output().decode().splitlines()[1:]],
        json.loads(mpd.file("worker.json")),
        seen,
        mpd.ad(),
    )


def _watch(pool: Pool) -> Result:
    arguments = f"alice {WATCH_SECONDS} {AFTER_SECONDS}"
    program = (PROGRAMS / "watch").read_bytes()
    return pool.root(f"python3 - {arguments}", stdin=program, timeout=2 * WATCH_SECONDS)


@contextmanager
def _configured(pool: Pool, setting: Setting) -> Iterator[None]:
    """Every starter reads the configuration as it starts: no daemon has to be told."""
    pool.put(setting.configuration, CONFIGURATION_FILE)
    try:
        yield
    finally:
        pool.root(f"rm -f {CONFIGURATION_FILE}")


def _clear(pool: Pool) -> None:
    """End what the case may have left on the node."""
    pool.root("pkill -KILL -u alice -x mpd; rm -f /tmp/mpd2.console_alice", check=False)


Cell = Callable[[Observation], str]


def table(observations: Sequence[Observation]) -> str:
    """The observations side by side, at most WIDTH columns wide."""
    rows = [("", [one.setting.title[line] for one in observations]) for line in (0, 1)]
    lines = [_line(label, cells) for label, cells in rows]
    lines.append("-" * len(lines[0]))
    lines += [_line(label, [cell(one) for one in observations]) for label, cell in _ROWS]
    return "\n".join(line.rstrip() for line in lines)


def _line(label: str, cells: Sequence[str]) -> str:
    width = (WIDTH - LABEL_WIDTH) // len(cells)
    return label.ljust(LABEL_WIDTH) + "".join(cell.rjust(width) for cell in cells)


def _seconds(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _can(lines: Sequence[str]) -> str:
    return "yes" if any(line.startswith("reached ") for line in lines) else "no"


def _left(one: Observation) -> str:
    more = ">" if one.watch["left_still"] else ""
    return f"{more}{one.watch['left_seconds']:.1f}"


def _processes(one: Observation) -> str:
    return f"{len(one.processes)} of {len(set(one.processes))}"


_ROWS: tuple[tuple[str, Cell], ...] = (
    ("bob can command alice's daemon", lambda one: ""),
    ("  from a login on the node", lambda one: _can(one.from_node)),
    ("  from a job of his", lambda one: _can(one.from_job)),
    ("alice's job sees", lambda one: ""),
    ("  processes, of how many users", _processes),
    ("  bob's job", lambda one: "yes" if "bob" in one.processes else "no"),
    ("alice's daemon after the job", lambda one: ""),
    ("  lives on for (s)", _left),
    ("  uses CPU time (s)", lambda one: _seconds(one.worker["after"], 2)),
    ("CPU seconds really used", lambda one: ""),
    ("  by the daemon's worker alone", lambda one: _seconds(one.worker["total"], 2)),
    ("  by the slot (kernel)", lambda one: _seconds(one.sampled_cpu_seconds("slot"), 2)),
    ("  by the job's own group (kernel)", lambda one: _seconds(one.sampled_cpu_seconds("own"), 2)),
    ("CPU seconds in the job ad", lambda one: ""),
    ("  RemoteUserCpu+RemoteSysCpu", lambda one: _seconds(one.remote_cpu_seconds(), 0)),
    ("  ChirpLedgeCpu{User,System}Seconds", lambda one: _seconds(one.ledge_cpu_seconds(), 2)),
)
