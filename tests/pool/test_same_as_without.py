"""A job runs under condor-ledge exactly as without it: every kind of job, without and with it."""

from __future__ import annotations

import fnmatch
import io
import itertools
import json
import re
import shlex
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from difflib import unified_diff
from hashlib import sha256
from typing import Any, NamedTuple

import pytest

from tests.pool import user_log
from tests.pool.condor import Pool
from tests.pool.job import Job, Submission
from tests.pool.kinds import (
    DIFFERENCES,
    DIFFERENCES_ALONE,
    KINDS,
    NOT_EXECUTED,
    Difference,
    Kind,
)
from tests.pool.releases import CONTAINER, VM
from tests.pool.user_log import Event

LARGEST_SHOWN = 100000  # bytes; of larger files the test tells the hash
# A renice by the starter, which a job must not lose, and scripts before and after a job.
CONFIGURATION = "JOB_RENICE_INCREMENT = 5\nSTARTER_ALLOW_JOB_PRE_AND_POST_CMD = True\n"
RUN_SECONDS = 600.0
PAUSE_SECONDS = 1.0
VANILLA = 5
# What HTCondor does otherwise from version to version: groups, signals, transfers, checkpoints.
ON_BOTH_POOLS = (
    "exit_7", "killed_by_SIGKILL", "out_of_memory", "leaves_a_process",
    "environment", "temporary_directories", "checkpoints_itself", "removed_with_its_own_signal",
    "held_and_released", "vacated_saves_its_files", "suspended_and_continued",
    "talks_to_the_starter", "visited_by_ssh",
)  # fmt: skip
# Without the memory controller nothing is killed for want of memory, and HTCondor counts no
# processes, so tells nobody that it has suspended them; a container may lack capabilities that a
# user namespace has. Without emulation it is a matter of luck what the shadow is told of a transfer
# that fails. The others of ON_BOTH_POOLS are judged in both.
IN_VM_ALONE = (
    "out_of_memory", "out_of_memory_in_a_child", "suspended_and_continued",
    "signals_and_privileges", "output_missing",
)  # fmt: skip
NUMBERS = itertools.count(1)

# What no two runs of a job have in common: names of attributes, and why.
VOLATILE_ATTRIBUTES = (
    (r"(Chirp)?Ledge\w+", "the plugin's own"),
    (r"\w*(Time|Mtime|Date|Duration|Renewal|Done|Started|Finished)", "when and how long"),
    (r"EnteredCurrentStatus|JobCoolDownExpiration|DAG_Stats", "likewise"),
    (r"\w*StatsLifetime(Starter)?|JobPid", "likewise, and a PID"),
    (r"\w*(Cpu|Usage|Size|SizeMB|Kbytes|Block(Read|Write)s)(_RAW)?", "usage, sampled"),
    (r"ScratchDirFileCount|ExecuteDirWasEncrypted", "comes with the usage"),
    (r"TransferOutputStats", "of a transfer that failed it comes or not"),
    (r"ClusterId|AutoClusterId|GlobalJobId|JobBatchName|LastPublicClaimId", "ids"),
    (r"\w*RemoteHost|LastRejMatch\w+", "which slot was free, and when"),
)
# The same in texts (events, values of attributes, outputs): what is replaced by what, and why.
VOLATILE_TEXT = (
    (rb"\bdir_\d+", b"dir_PID", "the scratch directory is named after the starter's PID"),
    (rb"\bslot\d+(_\d+)?", b"SLOT", "whichever slot was free"),
    (rb"<127[^>]*>", b"<ADDRESS>", "addresses have ports and time stamps"),
    (rb"(?<=STARTER_PID=)\d+", b"PID", "a PID"),
    (rb"_CONDOR_ANCESTOR_\S+", b"ANCESTOR", "PIDs and times"),
    (rb'(?<="When": )\d+', b"WHEN", "the time of the exit, in ToE on 23.9"),
)
# Lines of events that measure, and events that only do.
VOLATILE_LINES = re.compile(
    r"Usr \d+ \d\d:|Partitionable Resources|^(Cpus|Disk \(KB\)|Memory \(MB\)|GPUs) +:|"
    r"^Time(Execute|SlotBusy) |^\d+ +-  (MemoryUsage|ResidentSetSize|ProportionalSetSize)|"
    # On 23.9 it comes before or after "executing".
    r"Job terminated of its own accord at |Finished transferring (in|out)put files$"
)
VOLATILE_EVENTS = ("image size",)
INPUT_ARRIVED = "Finished transferring input files"


class File(NamedTuple):
    """A file, directory or link (whose target is the content) in the submit directory."""

    mode: int
    content: bytes


Files = dict[str, File]


class Outcome(NamedTuple):
    """What became of a job: its final ad, its events, the files in its submit directory."""

    job: Job
    ad: Mapping[str, Any]
    events: Sequence[Event]
    files: Files
    finished: bool

    def plain(self, text: bytes) -> bytes:
        """Text without what no two runs have in common."""
        cluster = str(self.job.cluster).encode()
        text = text.replace(self.job.directory.encode(), b"DIRECTORY")
        text = re.sub(rb"(?<!\d)(?<!\d\.)%s\.0(?!\.?\d)" % cluster, b"CLUSTER.PROC", text)
        for pattern, replacement, _ in VOLATILE_TEXT:
            text = re.sub(pattern, replacement, text)
        return text

    def plain_text(self, text: str) -> str:
        return self.plain(text.encode(errors="replace")).decode(errors="replace")


class Progress:
    """One job on its way: the steps that are still to be done."""

    def __init__(self, kind: Kind, job: Job) -> None:
        self.kind = kind
        self.job = job
        self.steps = list(kind.steps)
        self.events: list[Event] = []

    def due(self, marks: Sequence[str]) -> Iterator[str]:
        """The commands whose time has come, each once."""
        names = [event.name for event in self.events]
        while self.steps and (self.steps[0].after in names or self.steps[0].after in marks):
            yield self.steps.pop(0).command.replace("{id}", self.job.id)

    def finished(self) -> bool:
        """Whether all was done and the last word is spoken."""
        states = [one.name for one in self.events if one.name in ("terminated", "aborted", "held")]
        return not self.steps and states[-1:] == [self.kind.end]


def run_all(pool: Pool, kinds: Sequence[Kind]) -> dict[str, Outcome]:
    """Run one job of each kind and tell what became of them; ends with an empty queue."""
    if not kinds:
        return {}
    run = f"run{next(NUMBERS)}"
    jobs = pool.submit_all(
        [Submission(k.description, "alice", f"{run}-{k.name}", k.sources) for k in kinds]
    )
    running = [Progress(kind, job) for kind, job in zip(kinds, jobs)]
    deadline = time.monotonic() + RUN_SECONDS
    while not _advance(pool, run, running) and time.monotonic() < deadline:
        time.sleep(PAUSE_SECONDS)
    ads = _final_ads(pool, [one.job for one in running if one.finished()])
    files = _files(pool, run)
    pool.remove_all_jobs()
    return {
        one.kind.name: Outcome(
            one.job,
            ads.get(one.job.cluster, {}),
            one.events,
            files.get(one.job.directory.rpartition("/")[2], {}),
            one.finished(),
        )
        for one in running
    }


def _advance(pool: Pool, run: str, running: Sequence[Progress]) -> bool:
    """Look at all logs, do what is due; whether all jobs are finished."""
    logs_and_marks = f"grep -a '' {run}-*/log; ls -d {run}-*/mark.*"
    look = f"cd /home/alice/jobs && {{ {logs_and_marks}; }} 2>/dev/null"
    logs: dict[str, list[str]] = {}
    marks: dict[str, list[str]] = {}
    for line in pool.root(look, check=False).stdout.splitlines():
        place, _, rest = line.partition("/")
        if rest.startswith("log:"):
            logs.setdefault(place, []).append(rest[len("log:") :] + "\n")
        else:
            marks.setdefault(place, []).append(rest)
    commands = []
    for one in running:
        place = one.job.directory.rpartition("/")[2]
        events, _ = user_log.parse("".join(logs.get(place, [])))
        one.events = [event for event in events if event.cluster == one.job.cluster]
        for command in one.due(marks.get(place, [])):
            inside = shlex.quote(f"cd {one.job.directory} && {command}")
            commands.append(f"timeout 60 sh -c {inside} >/dev/null 2>&1 &")
    if commands:
        pool.run_as("alice", "\n".join([*commands, "wait"]))
    return not commands and all(one.finished() for one in running)


def _final_ads(pool: Pool, jobs: Sequence[Job]) -> dict[int, dict[str, Any]]:
    """The ads of jobs that are over or held, by cluster, once the schedd has all of them."""
    ids = " ".join(str(job.cluster) for job in jobs)
    deadline = time.monotonic() + 30.0
    while True:
        ads: dict[int, dict[str, Any]] = {}
        for query in (f"condor_history -json {ids}", f"condor_q -allusers -json {ids}"):
            answer = pool.root(query).stdout.strip()
            ads.update({ad["ClusterId"]: ad for ad in (json.loads(answer) if answer else [])})
        settled = [ad for ad in ads.values() if ad["JobStatus"] in (3, 4, 5)]
        if len(settled) == len(jobs) or time.monotonic() > deadline:
            return ads
        time.sleep(PAUSE_SECONDS)


def _files(pool: Pool, run: str) -> dict[str, Files]:
    """Contents of all files below the submit directories, by directory and name."""
    archive, _, _ = pool.machine.execute(f"cd /home/alice/jobs && tar -cf - {run}-*")
    found: dict[str, Files] = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        for member in members:
            place, _, name = member.name.partition("/")
            if not name or name == "log" or name.startswith(".submitted"):
                continue
            file = members.extractfile(member) if member.isfile() else None
            content = file.read() if file else member.linkname.encode()
            found.setdefault(place, {})[name] = File(member.mode, content)
    return found


def told(kind: Kind, outcome: Outcome) -> list[str]:
    """All that must be the same, a line each."""
    return [*_ad_lines(kind, outcome), *_event_lines(outcome), *_file_lines(kind, outcome)]


def _ad_lines(kind: Kind, outcome: Outcome) -> Iterator[str]:
    patterns = [kind.volatile, *(pattern for pattern, _ in VOLATILE_ATTRIBUTES)]
    volatile = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))
    for name, value in sorted(outcome.ad.items()):
        if name == "SpooledOutputFiles":  # in the order of a directory
            value = ",".join(sorted(value.split(",")))
        if not volatile.fullmatch(name):
            text = json.dumps(value)
            number = isinstance(value, (int, float))  # 12.0 is no job id there
            yield f"ad: {name} = {text if number else outcome.plain_text(text)}"


def _event_lines(outcome: Outcome) -> Iterator[str]:
    for event in _in_one_order(outcome.events):
        if event.name not in VOLATILE_EVENTS:
            for line in event.lines:
                if not VOLATILE_LINES.search(line):
                    yield outcome.plain_text(f"event {event.number:03} {event.name}: {line}")


def _in_one_order(events: Sequence[Event]) -> list[Event]:
    """Without emulation a job may begin before its shadow has noted that its input has arrived."""
    found: list[Event] = []
    for event in events:
        late = INPUT_ARRIVED in event.lines[0] and found and found[-1].name == "executing"
        found.insert(len(found) - 1 if late else len(found), event)
    return found


def _file_lines(kind: Kind, outcome: Outcome) -> Iterator[str]:
    for path, file in sorted(outcome.files.items()):
        name = outcome.plain_text(path)
        yield f"file {name}: mode {file.mode:o}"
        content = outcome.plain(file.content)
        if any(fnmatch.fnmatch(name, pattern) for pattern in kind.opaque):
            continue
        if len(content) > LARGEST_SHOWN:
            content = f"{len(content)} bytes, SHA-256 {sha256(content).hexdigest()}".encode()
        for line in content.splitlines(keepends=True):
            yield f"file {name}: {line!r}"


def parameters(on_both_pools: Sequence[str] = ()) -> list[Any]:
    """All kinds, those that a hook decides on where there is one."""
    rows = []
    for kind in KINDS:
        marks = [pytest.mark.both_pools] if kind.name in on_both_pools else []
        marks.append(pytest.mark.machine(*_machines(kind.name)))
        known = DIFFERENCES.get(kind.name)
        if known is not None and known.reason == NOT_EXECUTED:
            marks.append(pytest.mark.since_htcondor(24, 8))
        rows.append(pytest.param(kind, id=kind.name, marks=marks))
    return rows


def _machines(kind: str) -> tuple[str, ...]:
    """Where that kind is compared."""
    if kind in IN_VM_ALONE:
        return (VM,)
    return (CONTAINER, VM) if kind in ON_BOTH_POOLS else (CONTAINER,)


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, pool: Pool, _installed: None
) -> dict[str, dict[str, Outcome]]:
    """What became of the kinds without the plugin, with it, and with it but without ledged."""
    by_ledged = _wanted(request, pool, "test_launched_by_ledged")
    alone = _wanted(request, pool, "test_alone")
    either = [kind for kind in KINDS if kind in [*by_ledged, *alone]]
    # PIDs of one length: they stand in outputs, whose bytes are counted.
    pool.root("echo 20000 >/proc/sys/kernel/ns_last_pid")
    with pool.configured(CONFIGURATION):
        pool.plugin_off()
        outcomes = {"without": run_all(pool, either)}
        pool.plugin_on()
        outcomes["by_ledged"] = run_all(pool, by_ledged)
        pool.plugin_on(daemon=False)
        outcomes["alone"] = run_all(pool, alone)
        pool.plugin_on()
    return outcomes


def _wanted(request: pytest.FixtureRequest, pool: Pool, test: str) -> list[Kind]:
    """The kinds for which that test is going to run on this pool."""
    found = set()
    for item in request.session.items:
        if isinstance(item, pytest.Function) and item.originalname == test:
            parameters: dict[str, Any] = item.callspec.params
            if parameters["pool"] == pool.place:
                found.add(parameters["kind"].name)
    return [kind for kind in KINDS if kind.name in found and _possible(pool, kind)]


def _possible(pool: Pool, kind: Kind) -> bool:
    return not kind.needs or pool.root(f"command -v {kind.needs}", check=False).returncode == 0


@pytest.mark.parametrize("kind", parameters(ON_BOTH_POOLS))
def test_launched_by_ledged(kind: Kind, outcomes: dict[str, dict[str, Outcome]]) -> None:
    compare(kind, outcomes["without"], outcomes["by_ledged"], DIFFERENCES)


@pytest.mark.parametrize("kind", parameters())
def test_alone(kind: Kind, outcomes: dict[str, dict[str, Outcome]]) -> None:
    compare(kind, outcomes["without"], outcomes["alone"], DIFFERENCES_ALONE)


def compare(
    kind: Kind,
    all_without: dict[str, Outcome],
    all_with: dict[str, Outcome],
    differences: dict[str, Difference],
) -> None:
    """Fail if a job of this kind was another one with the plugin, but for the known difference."""
    without, with_ledge = all_without.get(kind.name), all_with.get(kind.name)
    if without is None or with_ledge is None:
        pytest.skip(f"needs {kind.needs} in the image")
    assert problems(kind, without) == [], "without the plugin"
    expected, found = told(kind, without), told(kind, with_ledge)
    known = differences.get(kind.name)
    if known is not None:
        expected, found = known.applied(expected), known.compared(found)
    changes = unified_diff(expected, found, "without", "with", n=0, lineterm="")
    assert found == expected, "\n" + "\n".join(changes)
    if kind.end == "terminated" and with_ledge.ad["JobUniverse"] == VANILLA:
        assert "ChirpLedgeVersion" in with_ledge.ad, "the plugin was not on"
    assert not any(name.startswith("ChirpLedge") for name in without.ad), "the plugin was on"


def problems(kind: Kind, outcome: Outcome) -> list[str]:
    """In what the outcome is not what this kind is about."""
    if not outcome.finished:
        return [f"not finished; the log has {[event.name for event in outcome.events]}"]
    found = [
        f"{name} is {outcome.ad.get(name)!r}, not {value!r}"
        for name, value in kind.ad.items()
        if outcome.ad.get(name) != value
    ]
    contents = {outcome.plain_text(path): file.content for path, file in outcome.files.items()}
    for name, pattern in kind.files.items():
        content = contents.get(name)
        if content is None:
            found.append(f"no file {name}")
        elif not re.search(pattern.encode(), content):
            found.append(f"{name} is {content[:500]!r}, not {pattern!r}")
    return found
