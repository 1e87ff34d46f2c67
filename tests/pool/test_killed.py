"""Jobs of a moment, and jobs that are killed: what is in their ads, against what is known of them.

Every job notes how much CPU time it has used, and waits, or is killed at once for want of memory.
What ledged read of a killed job is in its log in any case; the job ad has it if ledged has written
it when the starter asks for it. CONDOR_LEDGE_KILLED_RUNS=20 kills as many jobs in each way, and
prints how they were read.
"""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from tests.pool.condor import CONFIG_DIRECTORY, Pool
from tests.pool.job import Job, Submission
from tests.pool.test_ledged import await_ledged, ledged_pid
from tests.pool.test_recording import await_ad, reading

# It is LedgeUsage that tells.
pytestmark = pytest.mark.since_htcondor(25, 4)

RUNS = int(os.environ.get("CONDOR_LEDGE_KILLED_RUNS", "1"))
MIB = 1 << 20
LIMIT_MIB = 128
PATIENCE_SECONDS = 180.0
CONFIG_FILE = f"{CONFIG_DIRECTORY}/71-killed.conf"

# Arguments: CPU seconds to use; then what to do. What follows the known CPU time uses little of it,
# except for the dying of a process that has a hundred megabytes.
JOB = r"""#!/usr/bin/python3 -ISE
import mmap, os, resource, sys

def burn(seconds):
    used = 0.0
    while used < seconds:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        used = usage.ru_utime + usage.ru_stime
    with open("known.new", "w") as file:
        file.write(str(used))
    os.rename("known.new", "known")

for name in ("more", "gate"):
    os.mkfifo(name)
burn(float(sys.argv[1]))
open("running", "w").close()
if sys.argv[2] == "eat":
    area = mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for page in range(0, 1 << 30, mmap.PAGESIZE):
        area[page] = 1
open("more").read()
burn(float(sys.argv[1]) + 1)
open("done", "w").close()
open("gate").read()
"""
DESCRIPTION = f"executable = work\nrequest_memory = {LIMIT_MIB}M\nrequest_disk = 10M\n"
# Argument: a job's directory. Prints the PID of its wrapper, which only root can see to be that.
FIND_WRAPPER = (
    "for pid in $(pgrep -f '[c]ondor-ledge/job_wrapper'); do "
    '[ "$(readlink /proc/$pid/cwd)" = "$0" ] && echo $pid && break; done'
)


@pytest.fixture(scope="module")
def node(pool: Pool, _installed: None) -> Iterator[Pool]:
    """LedgeUsage at short intervals; ledged is started anew for that."""
    pool.put("LEDGE_USAGE_INTERVAL = 5\n", CONFIG_FILE)
    pool.reconfigure()
    before = await_ledged(pool)
    pool.root(f"kill {before}")
    await_ledged(pool, other_than=before)
    yield pool
    pool.root(f"rm -f {CONFIG_FILE}")
    pool.reconfigure()
    pool.remove_all_jobs()


def work(seconds: float, what: str, more: str = "") -> Submission:
    return Submission(f"{DESCRIPTION}arguments = {seconds} {what}\n{more}", files={"work": JOB})


@pytest.fixture(scope="module")
def jobs(node: Pool) -> dict[str, list[Job]]:
    """All of them, submitted together; each has used its CPU time when this is done."""
    kept = "leave_in_queue = true\n"
    submissions = {
        "moment": Submission("executable = /bin/sleep\narguments = 0.02\n"),
        "removed": work(0.5, "wait", kept),
        "held": work(0.5, "wait"),
        "during": work(0.5, "wait", kept),
        "after": work(0.5, "wait", kept),
        **{f"memory {run}": work(0.5, "eat") for run in range(RUNS)},
        **{f"wrapper {run}": work(0.5, "wait", kept) for run in range(RUNS)},
    }
    found: dict[str, list[Job]] = {}
    for name, job in zip(submissions, node.submit_all(list(submissions.values()))):
        found.setdefault(name.split()[0], []).append(job)
    return found


def await_file(job: Job, name: str = "running") -> None:
    path = shlex.quote(job.path(name))
    job.pool.root(f"until [ -e {path} ]; do sleep 0.2; done", timeout=PATIENCE_SECONDS)


def let(job: Job, name: str) -> None:
    """Let it go on that waits at this pipe."""
    job.pool.root(f"echo >{shlex.quote(job.path(name))}", timeout=PATIENCE_SECONDS)


def known_cpu(job: Job) -> float:
    return float(job.file("known"))


def check_cpu(figures: Mapping[str, Any], job: Job, more: float = 1.5) -> None:
    """What was known before the end, and a little of what came after."""
    used, known = figures["CpuUserSeconds"] + figures["CpuSystemSeconds"], known_cpu(job)
    print(f"{job.id}: CPU {used:.3f} s, known {known:.3f} s")
    assert known <= used < known + more


def check_reading(usage: Mapping[str, Any]) -> None:
    """Exact, or sampled with its age when the job ended."""
    assert usage["Reading"] in ("exact", "sampled")
    assert ("ReadingAgeSeconds" in usage) == (usage["Reading"] == "sampled")
    assert usage.get("ReadingAgeSeconds", 0) >= 0


class LastWords(NamedTuple):
    """What ledged read of a job that did not settle."""

    reading: str
    figures: dict[str, float]


def last_words(job: Job) -> LastWords:
    """From LedgeLog, as soon as they are there."""
    log = "/var/log/condor/LedgeLog"
    launched = f"job {job.id} of {job.user}: launched for the wrapper "
    find = f"pid=$(sed -n 's/.*{launched}\\([0-9]*\\).*/\\1/p' {log}); "
    find += f"until grep \"the wrapper $pid has gone without\" {log}; do sleep 0.2; done"
    line = job.pool.root(find, timeout=60).stdout
    print(f"{job.id}: {line.partition('settling; ')[2].partition(':')[0]}")
    figures = {name: float(value) for name, value in re.findall(r"(\w+)=([\d.]+)", line)}
    return LastWords("exact" if "settling; exact" in line else "sampled", figures)


def print_readings(title: str, words: list[LastWords], ads: list[dict[str, Any]]) -> None:
    read = Counter(word.reading for word in words)
    told = Counter(reading(ad, "LedgeUsage") for ad in ads)
    usages = [ad.get("LedgeUsage") or {} for ad in ads]
    ages = sorted(usage["ReadingAgeSeconds"] for usage in usages if "ReadingAgeSeconds" in usage)
    print(f"{title}: read by ledged {dict(read)}, in the ad {dict(told)}, ages {ages}")


def test_a_job_of_a_moment(jobs: dict[str, list[Job]]) -> None:
    (job,) = jobs["moment"]
    job.wait("terminated", PATIENCE_SECONDS)
    usage = job.ad()["LedgeUsage"]
    assert usage["Reading"] == "exact"
    assert 0 < usage["CpuUserSeconds"] + usage["CpuSystemSeconds"] < 5
    assert 0 < usage["MemoryPeakBytes"] < 16 * MIB
    assert 1 <= usage["ProcessesPeak"] <= 3


def test_live_figures_and_rates(jobs: dict[str, list[Job]]) -> None:
    """Of a job that waits: its memory and processes of the moment, and hardly any CPU in use."""
    (job,) = jobs["during"]
    await_file(job)
    ad = await_ad(job, lambda ad: (ad.get("LedgeUsage") or {}).get("CpuInUseCores", 1) < 0.2)
    usage = ad["LedgeUsage"]
    print({name: value for name, value in usage.items() if "Second" in name})
    print(f"LedgeUsage has {len(str(usage))} characters")
    assert usage["Reading"] == "running"
    assert usage["ProcessesCount"] == 1
    assert 0 < usage["MemoryCurrentBytes"] <= usage["MemoryPeakBytes"]
    assert usage["RatesOverSeconds"] > 1
    for rate in ("BlockRead", "BlockWrite", "NetworkReceived", "NetworkSent"):
        assert usage[f"{rate}BytesPerSecond"] >= 0


def test_killed_for_want_of_memory(jobs: dict[str, list[Job]]) -> None:
    """HTCondor's own words stay; what to ask for is beside them."""
    for job in jobs["memory"]:
        job.wait("held", PATIENCE_SECONDS)
    words = [last_words(job) for job in jobs["memory"]]
    ads = [job.ad() for job in jobs["memory"]]
    print_readings("memory", words, ads)
    for job, word, ad in zip(jobs["memory"], words, ads):
        assert (ad["HoldReasonCode"], ad["HoldReasonSubCode"]) == (34, 102)
        assert f"cgroup memory limit of {LIMIT_MIB} megabytes" in ad["HoldReason"]
        check_cpu(word.figures, job, 5.0)  # touching, and giving back, its memory
        assert word.figures["OomKills"] >= 1
        assert (LIMIT_MIB - 24) * MIB < word.figures["MemoryPeakBytes"] <= LIMIT_MIB * MIB
        assert word.figures["SuggestedRequestMemoryMiB"] == 256
        # HTCondor's starter does not ask for it at the end: what its last regular update had.
        usage = ad.get("LedgeUsage") or {"Reading": "running"}
        if usage["Reading"] != "running":
            check_reading(usage)
            assert (usage["OomLevel"], usage["SuggestedRequestMemoryMiB"]) == ("slice", 256)


def test_a_wrapper_that_its_user_kills(jobs: dict[str, list[Job]], node: Pool) -> None:
    words, ads = [], []
    for job in jobs["wrapper"]:
        await_file(job)
        pid = node.root(f"sh -c {shlex.quote(FIND_WRAPPER)} {job.directory}").stdout.strip()
        node.run_as(job.user, f"kill -KILL {pid}")
        job.wait("terminated", PATIENCE_SECONDS)
        words.append(last_words(job))
        ads.append(job.ad())
    print_readings("wrapper", words, ads)
    for job, word, ad in zip(jobs["wrapper"], words, ads):
        check_cpu(word.figures, job)
        check_reading(ad["LedgeUsage"])
        check_cpu(ad["LedgeUsage"], job)


@pytest.mark.parametrize(("how", "event"), [("removed", "aborted"), ("held", "held")])
def test_a_job_that_is_told_to_end(jobs: dict[str, list[Job]], how: str, event: str) -> None:
    (job,) = jobs[how]
    await_file(job)
    job.remove() if how == "removed" else job.hold()
    job.wait(event, PATIENCE_SECONDS, strict=False)
    ad = await_ad(job, lambda ad: reading(ad, "LedgeUsage") == "exact")
    check_cpu(ad["LedgeUsage"], job)


def test_while_ledged_is_down(jobs: dict[str, list[Job]], node: Pool) -> None:
    """One job ends meanwhile, one works; that one is found again."""
    (during,), (after,) = jobs["during"], jobs["after"]
    for job in (during, after):
        await_file(job)
    before = ledged_pid(node)
    node.root("condor_off -daemon ledged")
    node.root(f"while kill -0 {before} 2>/dev/null; do sleep 0.2; done", timeout=60)
    for job in (during, after):
        let(job, "more")
    for job in (during, after):
        await_file(job, "done")
    let(during, "gate")
    during.wait("terminated", PATIENCE_SECONDS)  # its wrapper has read it
    node.root("condor_on -daemon ledged")
    await_ledged(node, other_than=before)
    let(after, "gate")
    after.wait("terminated", PATIENCE_SECONDS)
    ad = during.ad()
    check_cpu({name[len("ChirpLedge"):]: value for name, value in ad.items()}, during)
    assert reading(ad, "LedgeUsage") == "running"  # the last that there was
    usage = after.ad()["LedgeUsage"]
    # The startd may have written its file anew between ledged and the starter.
    assert usage["Reading"] in ("exact", "running")
    if usage["Reading"] == "exact":
        check_cpu(usage, after)
    assert "ledged was started anew while the job ran" in usage["Unmeasured"]
    assert "Isolation" not in usage
    assert usage["NetworkSentBytes"] >= 0  # counted on by the kernel
