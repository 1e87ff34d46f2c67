"""condor_ledge usage: the table, which figures it takes, and the tables for condor_q -pr."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import classad2
import pytest

from ledge.cli import main, usage
from ledge.ledger.amounts import age, duration, percent, size
from ledge.ledger.table import reasons
from tests.installed import SOURCE_ROOT

TAKEN = 1780000000
JOB = f"""\
ActivationExecutionDuration = 1200
ClusterId = 12
CompletionDate = {TAKEN + 2}
CpusProvisioned = 4
JobCurrentStartExecutingDate = {TAKEN - 1200}
JobStatus = 4
LastRemoteHost = "slot1_2@node7.example.org"
MemoryProvisioned = 16384
MemoryUsage = ((ResidentSetSize + 1023) / 1024)
Owner = "alice"
ProcId = 3
RequestCpus = 4
RequestMemory = 16384
ResidentSetSize = 1750000
"""
# As a job on Linux 6.1 has them.
FIGURES = """\
BlockDevices = [ nvme0n1 = [ rbytes = 98784247808; rios = 1507328; wbytes = 0; wios = 0 ]; \
sda = [ rbytes = 0; rios = 0; wbytes = 2531328; wios = 618 ] ]; BlockDiscardBytes = 0; \
BlockDiscardOperations = 0; BlockReadBytes = 98784247808; BlockReadOperations = 1507328; \
BlockWriteBytes = 2531328; BlockWriteOperations = 618; CpuPeriodsCount = 11980; \
CpuSystemSeconds = 47.400000; CpuThrottledPeriodsCount = 1200; CpuThrottledSeconds = 31.250000; \
CpuUserSeconds = 480.500000; Enforced = "pids.max 2000, memory.high 15.2G, cpu.max 4"; \
ForksRefusedCount = 0; Incomplete = "LogicalReadBytes, LogicalWriteBytes: processes were still \
there at the end"; Isolation = "pid,mount,ipc,cgroup,uts"; LogicalReadBytes = 98800000000; \
LogicalWriteBytes = 2600000; MemoryAnonAtPeakBytes = 1610612736; \
MemoryAnonShmemPeakBytes = 1614807040; MemoryFileAtPeakBytes = 545259520; MemoryHighCount = 0; \
MemoryKernelAtPeakBytes = 12582912; MemoryMaxCount = 0; MemoryPeakBytes = 2254857830; \
MemoryShmemAtPeakBytes = 4194304; MemorySockAtPeakBytes = 0; NetworkLocalReceivedBytes = 0; \
NetworkLocalReceivedPacketsCount = 0; NetworkLocalSentBytes = 0; \
NetworkLocalSentPacketsCount = 0; NetworkReceivedBytes = 1500; \
NetworkReceivedPacketsCount = 4; NetworkSentBytes = 900; NetworkSentPacketsCount = 5; \
OomCount = 0; OomGroupKillsCount = 0; OomKills = 0; PageFaultsMajorCount = 1204; \
PageFaultsMinorCount = 512300; PressureCpuFullSeconds = 0.000000; \
PressureCpuSomeSeconds = 12.345678; PressureIoFullSeconds = 790.500000; \
PressureIoSomeSeconds = 840.123456; PressureMemoryFullSeconds = 0.000000; \
PressureMemorySomeSeconds = 0.000796; ProcessesPeak = 17; RefaultsAnonCount = 0; \
RefaultsFileCount = 25; Sampled = "MemoryAnonShmemPeakBytes, MemoryAnonAtPeakBytes, \
MemoryShmemAtPeakBytes, MemoryFileAtPeakBytes, MemorySockAtPeakBytes, \
MemoryKernelAtPeakBytes: the highest of 240 readings"; Tracking = "cgroup"; \
Unmeasured = "CpuThrottledAnywhereSeconds: no cpu.stat.local (Linux 6.6 has it); \
SwapPeakBytes: no memory.swap.peak (Linux 6.5 has it); SwapInBytes, SwapOutBytes, ZswapInBytes, \
ZswapOutBytes: not in memory.stat (Linux 6.13 has it)"; Version = "0.1.0\""""
CHIRP = """\
ChirpLedgeCpuSystemSeconds = 1.0
ChirpLedgeCpuUserSeconds = 2.0
ChirpLedgeTracking = "processes"
ChirpLedgeUnmeasured = "all else: the job had no control group of its own"
"""

TABLE = """\
Job 12.3, alice, completed on slot1_2@node7.example.org
Figures: LedgeUsage, through the starter: the job cannot forge it; exact, read 5
min ago.
Not shown, see --source: ChirpLedge (exact).

Processor
  used                       0:08:48  11 % of 4 CPUs for 0:20:00
    by programs              0:08:00
    by the kernel            47.40 s
  held back by cpu_max       31.25 s  in 1,200 of 11,980 periods of cpu.max
    by any group's                 -  [1]

Memory
  peak                      2.10 GiB  13 % of the 16.0 GiB asked for
  peak without cache        1.50 GiB  9.4 % of the 16.0 GiB asked for, sampled
    anonymous then          1.50 GiB  sampled
    shared then             4.00 MiB  sampled
    page cache then          520 MiB  sampled
    sockets then                 0 B  sampled
    kernel then             12.0 MiB  sampled
  page faults, major           1,204
  page faults, minor         512,300
  dropped too early               25  pages
  slowed at memory.high            0  times
  at memory.max                    0  times
  out of memory                    0  times
    killed                         0  processes
    killed as a whole              0  times

Swap
  peak                             -  [2]
  read                             -  [3]
  written                          -  [3]
  compressed                       -  [3]
  decompressed                     -  [3]

Disk
  read                      92.0 GiB  78.5 MiB/s, 1,507,328 requests
  written                   2.41 MiB  2.06 KiB/s, 618 requests
  discarded                      0 B  0 requests
    nvme0n1                 92.0 GiB  read, 0 B written
    sda                          0 B  read, 2.41 MiB written

Logical I/O (files, pipes, caches; a lower bound)
  read                      92.0 GiB  78.5 MiB/s, at least
  written                   2.48 MiB  2.12 KiB/s, at least

Network
  received                  1.46 KiB  1 B/s, 4 packets
    local                        0 B  0 packets
  sent                         900 B  1 B/s, 5 packets
    local                        0 B  0 packets
  loopback received                -  [4]
  loopback sent                    -  [4]

Pressure: at least one process, and all at once
  waited for a CPU           12.35 s  1.0 % of the time
    all at once                  0 s  0 % of the time
  waited for memory          0.001 s  <0.1 % of the time
    all at once                  0 s  0 % of the time
  waited for the disk        0:14:00  70 % of the time
    all at once              0:13:10  66 % of the time

Processes and threads
  peak                            17
  refused                          0

Limits
  enforced              pids.max 2000, memory.high 15.2G, cpu.max 4

How it was measured
  tracking              cgroup
  namespaces            pid,mount,ipc,cgroup,uts
  too low               processes were still there at the end
  sampled               the highest of 240 readings
  version               0.1.0

Not measured
  [1] no cpu.stat.local (Linux 6.6 has it)
  [2] no memory.swap.peak (Linux 6.5 has it)
  [3] not in memory.stat (Linux 6.13 has it)
  [4] the ad does not say why

What it means
  Used 11 % of its 4 CPUs; its processes waited for the disk 70 % of the time.
  Asked for 16.0 GiB of memory, needed 2.10 GiB: request_memory = 2688 is
    enough.
  Its limit of CPU time, cpu_max, held it back 10 % of the time it ran.
"""


def record(name: str, reading: str, taken: int, figures: str = FIGURES) -> str:
    return f'{name} = [ Reading = "{reading}"; Taken = {taken}; {figures} ]\n'


FULL = JOB + record("LedgeUsage", "exact", TAKEN) + "ChirpLedgeCpuUserSeconds = 480.500000\n"


class Result(NamedTuple):
    """What a command printed, and its exit status."""

    stdout: str
    stderr: str
    returncode: int


def usage_command(*arguments: str, ad: str = "", now: float = TAKEN + 300) -> Result:
    output, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(ad.encode())))
        patch.setattr("ledge.cli.usage.time.time", lambda: now)
        with redirect_stdout(output), redirect_stderr(errors):
            status = main(["usage", *arguments])
    return Result(output.getvalue(), errors.getvalue(), status)


def row(table: str, label: str, group: str) -> str:
    """A line of the table, without its label."""
    after = table.partition(f"\n{group}")[2]
    lines = [line for line in after.splitlines() if line.strip().startswith(f"{label}  ")]
    return " ".join(lines[0].split()[len(label.split()) :])


def test_the_table() -> None:
    result = usage_command("-", ad=FULL)
    assert result.stdout == TABLE
    assert (result.stderr, result.returncode) == ("", 0)
    assert max(len(line) for line in result.stdout.splitlines()) <= 80


def test_missing_is_not_zero_and_has_its_reason() -> None:
    table = usage_command("-", ad=JOB + CHIRP).stdout
    assert row(table, "used", "Processor") == "3.00 s 0.1 % of 4 CPUs for 0:20:00"
    assert row(table, "all", "Memory") == "- [1]"
    assert row(table, "all", "Network") == "- [1]"
    assert "Not measured\n  [1] the job had no control group of its own\n" in table
    assert "Asked for" not in table and "swap," not in table


def test_of_a_figure_that_is_missing_without_a_reason() -> None:
    figures = 'CpuUserSeconds = 1.0; Tracking = "cgroup"'
    table = usage_command("-", ad=JOB + record("Ledge", "exact", TAKEN, figures)).stdout
    assert row(table, "used", "Processor") == "- [1]"
    assert row(table, "by programs", "Processor") == "1.00 s"
    assert "[1] the ad does not say why" in table


@pytest.mark.parametrize(
    ("scratch", "remark"),
    [
        ('"tmpfs"; ScratchWritesCounted = false', "0 B not all: scratch is on tmpfs"),
        ('"ext4"; ScratchWritesCounted = true', "0 B"),
        ('"overlay"', "0 B"),
    ],
)
def test_what_block_io_has_not(scratch: str, remark: str) -> None:
    figures = f"BlockWriteBytes = 0; ScratchFileSystem = {scratch}"
    table = usage_command("-", ad=JOB + record("Ledge", "exact", TAKEN, figures)).stdout
    assert row(table, "written", "Disk") == remark
    assert row(table, "scratch on", "How") == scratch.split('"')[1]


def test_gpus_are_what_htcondor_says_of_them() -> None:
    figures = record("Ledge", "exact", TAKEN)
    gpus = "GPUsProvisioned = 2\nGPUsAverageUsage = 0.731250\nGPUsMemoryUsage = 4321.0\n"
    table = usage_command("-", ad=JOB + figures + gpus).stdout
    assert row(table, "used", "GPUs") == "0.73 of 2 on average"
    assert row(table, "memory, peak", "GPUs") == "4.22 GiB"
    gpus = "GPUsProvisioned = 2\nGPUsMemoryUsage = 4321.0\n"
    table = usage_command("-", ad=JOB + figures + gpus).stdout
    assert row(table, "used", "GPUs") == "- of 2 on average"
    assert "GPU" not in usage_command("-", ad=JOB + figures + "GPUsProvisioned = 2\n").stdout


def test_ledge_comes_first_and_the_others_are_named() -> None:
    ledge = record("Ledge", "running", TAKEN - 600, "CpuUserSeconds = 12.0; CpuSystemSeconds = 0")
    table = usage_command("-", ad=FULL + ledge).stdout
    head = " ".join(table.partition("\n\n")[0].split())
    assert "Ledge, recorded at the schedd: the owner cannot change it; of a running job" in head
    assert "not final, read 15 min ago." in head
    assert "Not shown, see --source: LedgeUsage (exact), ChirpLedge (exact)." in head
    # Of the 600 s until it was read, and nothing of the other sources.
    assert row(table, "used", "Processor") == "12.00 s 0.5 % of 4 CPUs for 0:10:00"
    assert "2.10 GiB" not in table


@pytest.mark.parametrize(
    ("source", "seconds"), [("Ledge", 6.0), ("LedgeUsage", 480.5), ("ChirpLedge", 2.0)]
)
def test_source_is_an_option(source: str, seconds: float) -> None:
    ad = JOB + record("LedgeUsage", "exact", TAKEN) + CHIRP
    ad += record("Ledge", "exact", TAKEN, "CpuUserSeconds = 6.0")
    [told] = json.loads(usage_command("--json", "--source", source, "-", ad=ad).stdout)
    assert (told["source"], told["figures"]["CpuUserSeconds"]) == (source, seconds)


def test_sampled_is_said() -> None:
    head = usage_command("-", ad=JOB + record("LedgeUsage", "sampled", TAKEN)).stdout[:400]
    assert "the last sample: the job could not be read at its end" in " ".join(head.split())


def test_how_old_a_sampled_reading_was() -> None:
    figures = FIGURES + "; ReadingAgeSeconds = 0.25"
    head = usage_command("-", ad=JOB + record("LedgeUsage", "sampled", TAKEN, figures)).stdout
    words = "the last sample, 0.250 s before its end: the job could not be read at its end"
    assert words in " ".join(head[:400].split())


def test_rates_of_a_running_job() -> None:
    figures = FIGURES + "; CpuInUseCores = 1.5; NetworkSentBytesPerSecond = 2048; "
    figures += "RatesOverSeconds = 30.0"
    table = usage_command("-", ad=JOB + record("LedgeUsage", "running", TAKEN, figures)).stdout
    assert row(table, "now", "Processor") == "1.50 CPUs in the last 30.00 s"
    assert row(table, "now", "Network") == "2.00 KiB/s in the last 30.00 s"
    assert "now" not in table.partition("\nDisk")[2].partition("\nNetwork")[0]


@pytest.mark.parametrize(
    "ad",
    [
        JOB + record("Ledge", "exact", TAKEN - 1201),
        JOB.replace("JobStatus = 4", "JobStatus = 2") + CHIRP,
    ],
)
def test_figures_of_an_earlier_start_are_not_measured_by_this_one(ad: str) -> None:
    table = usage_command("-", ad=ad).stdout
    assert "They are of an earlier start of the job.\n" in table
    assert "of 4 CPUs" not in table and "/s" not in table and "Used" not in table


def test_names_with_a_star_are_those_of_several_figures() -> None:
    """As ledged says it of a real job (ledge/usage/attributes.py)."""
    old = FIGURES[FIGURES.index("Sampled = ") : FIGURES.index("Tracking = ")]
    stars = "Sampled = \"MemoryAnonShmemPeakBytes, Memory*AtPeakBytes: highest of 5 readings\"; "
    unmeasured = 'Unmeasured = "Network*Sent*: no CAP_NET_ADMIN; '
    figures = FIGURES.replace(old, stars).replace('Unmeasured = "', unmeasured)
    figures = re.sub(r"Network\w*Sent\w* = \d+; ", "", figures)
    table = usage_command("-", ad=JOB + record("LedgeUsage", "exact", TAKEN, figures)).stdout
    for label in ("peak without cache", "anonymous then", "kernel then"):
        assert row(table, label, "Memory").endswith("sampled")
    assert "  sampled               highest of 5 readings\n" in table
    number = row(table, "sent", "Network").split()[1]
    assert f"  {number} no CAP_NET_ADMIN\n" in table


def test_what_the_job_s_own_init_tells_is_in_one_attribute_alone() -> None:
    figures = re.sub(r"Logical\w+ = \d+; ", "", FIGURES).replace("LogicalReadBytes, ", "")
    table = usage_command("-", ad=JOB + record("LedgeUsage", "exact", TAKEN, figures)).stdout
    assert "the job's own init tells it, so only ChirpLedge has it\n" in table


def test_a_request_that_follows_the_usage_is_not_what_was_asked_for() -> None:
    ad = FULL.replace("RequestMemory = 16384", "RequestMemory = ifThenElse(true, MemoryUsage, 1)")
    ad = ad.replace("MemoryProvisioned = 16384", "MemoryProvisioned = 4096")
    assert "of the 4.00 GiB asked for" in usage_command("-", ad=ad).stdout


def test_json_has_the_figures_as_they_are() -> None:
    [told] = json.loads(usage_command("--json", "-", ad=FULL).stdout)
    figures = told.pop("figures")
    assert told == {
        "job": "12.3", "owner": "alice", "source": "LedgeUsage", "reading": "exact",
        "taken_unix_seconds": TAKEN, "of_an_earlier_start": False, "wall_seconds": 1200,
        "cpus": 4, "request_memory_mib": 16384,
    }  # fmt: skip
    assert figures["PressureIoSomeSeconds"] == 840.123456
    assert figures["BlockDevices"]["sda"]["wbytes"] == 2531328
    assert "SwapPeakBytes" not in figures and "Taken" not in figures


def test_several_jobs_have_a_line_each() -> None:
    others = [JOB.replace("ProcId = 3", "ProcId = 10"), JOB.replace("ProcId = 3", "ProcId = 2")]
    result = usage_command("-", ad="\n".join([others[0], FULL, others[1] + CHIRP]))
    assert result.stdout == """\
   ID OWNER   CPU    TIME     PEAK    ASKED     READ  WRITTEN  NETWORK FIGURES
 12.2 alice 0.1 % 0:20:00        - 16.0 GiB        -        -        - ChirpLedge
 12.3 alice  11 % 0:20:00 2.10 GiB 16.0 GiB 92.0 GiB 2.41 MiB 2.34 KiB LedgeUsage
12.10 alice     -       -        - 16.0 GiB        -        -        - -

-: not measured; condor_ledge usage with the job's id says why.
"""
    assert result.returncode == 0


def test_a_job_without_figures() -> None:
    result = usage_command("-", ad=JOB)
    assert result.stdout.endswith("\nIt has no figures of condor-ledge (yet).\n")
    assert result.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "ad", "words"),
    [
        (("-",), "", "-: there is no ad in it"),
        (("-",), "not an ad\n", "-: the job ad has a line that is no attribute: 'not an ad'"),
        (("-",), "[ Ledge = 1 ]", "-: not an ad in the long format; condor_q -long"),
        (("none.ad",), "", "none.ad: No such file or directory"),
    ],
)
def test_what_is_no_ad(arguments: tuple[str, ...], ad: str, words: str) -> None:
    result = usage_command(*arguments, ad=ad)
    assert result.stderr.startswith(f"condor_ledge usage: {words}")
    assert result.returncode == 125


def test_nobody_reads_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "job.ad").write_text(FULL)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "ledge", "usage", str(tmp_path / "job.ad")]
    with os.fdopen(writer, "wb") as output:
        result = subprocess.run(
            command, cwd=SOURCE_ROOT, stdout=output, stderr=subprocess.PIPE, timeout=30
        )
    assert (result.stderr, result.returncode) == (b"", 0)


def test_what_condor_q_says_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The words of condor_q 25.14.1 without a schedd, and the beginning of its explanation.
    words = "Error: CEDAR:6001:Failed to connect to <127.0.0.1:9618>"
    (tmp_path / "condor_q").write_text(
        f"#!/bin/sh\nprintf '\\n{words}\\n\\nExtra Info: You probably saw this' >&2\nexit 1\n"
    )
    (tmp_path / "condor_q").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    result = usage_command("12.3")
    assert result.stderr == f"condor_ledge usage: condor_q failed (exit status 1): {words}\n"


def test_values_that_are_none() -> None:
    figures = "CpuUserSeconds = undefined; CpuSystemSeconds = 1 / 0; OomKills = 2; A = B; C = {1}"
    ad = JOB + record("Ledge", "exact", TAKEN, figures)
    [told] = json.loads(usage_command("--json", "-", ad=ad).stdout)
    assert told["figures"] == {"OomKills": 2}


@pytest.mark.parametrize("value", ["1e999", "-1e999", 'real("NaN")', "1e300"])
def test_a_job_cannot_keep_others_from_being_shown(value: str) -> None:
    """Figures that a job has written into its ad by chirp may be anything."""
    names = ("CpuUserSeconds", "MemoryPeakBytes", "OomKills", "SuggestedRequestMemoryMiB")
    forged = [f"ChirpLedge{name} = {value}\n" for name in names]
    ad = JOB + 'ChirpLedgeOomLevel = "slice"\n' + "".join(forged)
    other = JOB.replace("ProcId = 3", "ProcId = 2") + CHIRP
    assert row(usage_command("-", ad=ad).stdout, "all", "Processor")[0] == "-"
    assert " 0.1 % 0:20:00 " in usage_command("-", ad=f"{ad}\n{other}").stdout


def test_a_job_cannot_command_the_terminal() -> None:
    devices = "[ 'sda\x1b[2J' = [ rbytes = 1; wbytes = 1e999 ] ]"
    ad = JOB.replace("alice", "al\x1b[31mice") + f"ChirpLedgeBlockDevices = {devices}\n"
    ad += 'ChirpLedgeReading = "\x1b]0;"\nChirpLedgeIsolation = "pid\x1b[2J"\n'
    table = usage_command("-", ad=ad).stdout
    assert "sda [2J" in table
    assert "pid [2J" in table
    assert "\x1b" not in table + usage_command("-", ad=f"{ad}\n{FULL}").stdout


def test_without_htcondor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    result = usage_command("12.3")
    assert result.stderr == (
        "condor_ledge usage: condor_q: command not found; run this where HTCondor is, or give it "
        "a file that condor_q -long has printed\n"
    )
    assert result.returncode == 125


@pytest.mark.parametrize(
    ("job", "in_queue", "in_history", "ids", "asked"),
    [
        ("12.3", FULL, "", ["12.3"], ["queue"]),
        ("12.3", "", FULL, ["12.3"], ["queue", "history"]),
        # One that has left the queue between the two questions is in both answers.
        ("12", FULL, FULL.replace("ProcId = 3", "ProcId = 1") + "\n" + FULL, ["12.1", "12.3"],
         ["queue", "history"]),
    ],
)  # fmt: skip
def test_the_queue_is_asked_first(
    monkeypatch: pytest.MonkeyPatch,
    job: str, in_queue: str, in_history: str, ids: list[str], asked: list[str],
) -> None:  # fmt: skip
    order: list[str] = []

    def answer(where: str, ads: str) -> Callable[[list[str], str | None], bytes]:
        def ask(jobs: list[str], schedd: str | None) -> bytes:
            order.append(where)
            return ads.encode()

        return ask

    monkeypatch.setattr(usage, "queued", answer("queue", in_queue))
    monkeypatch.setattr(usage, "past", answer("history", in_history))
    told = json.loads(usage_command("--json", job).stdout)
    assert ([one["job"] for one in told], order) == (ids, asked)


def test_a_job_that_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "queued", lambda jobs, schedd: b"\n")
    monkeypatch.setattr(usage, "past", lambda jobs, schedd: b"")
    words = "job 12.3 is neither in the queue nor in the history; "
    assert words in usage_command("12.3").stderr


# As HTCondor 25.14 writes it: two jobs of a cluster, one of another, a cluster submitted by itself.
EVENT_LOG = """\
000 (012.001.000) 2026-11-23 08:33:00 Job submitted from host: <127.0.0.1:9618?addrs=127.0.0.1-9618>
...
000 (012.003.000) 2026-11-23 08:33:00 Job submitted from host: <127.0.0.1:9618?addrs=127.0.0.1-9618>
...
035 (013.-01.-01) 2026-11-23 08:33:01 Cluster submitted from host: <127.0.0.1:9618>
...
001 (012.003.000) 2026-11-23 08:33:09 Job executing on host: <127.0.0.1:9618?addrs=127.0.0.1-9618>
\tSlotName: slot1_1@node.pool
\tDetails: 000 (099.000.000) is no event
...
000 (1234.000.000) 2026-11-23 08:34:00 Job submitted from host: <127.0.0.1:9618>
...
"""


def test_the_jobs_of_an_event_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in the queue, one in the history, one nowhere; none that the log does not name."""
    asked: list[list[str]] = []

    def answer(ads: str) -> Callable[[list[str], str | None], bytes]:
        def ask(jobs: list[str], schedd: str | None) -> bytes:
            asked.append(jobs)
            return ads.encode()

        return ask

    others = [FULL.replace("ProcId = 3", f"ProcId = {proc}") for proc in (1, 2)]
    monkeypatch.setattr(usage, "queued", answer(FULL))
    monkeypatch.setattr(usage, "past", answer("\n".join(others)))
    result = usage_command("--json", "-", ad=EVENT_LOG)
    assert [one["job"] for one in json.loads(result.stdout)] == ["12.1", "12.3"]
    assert asked == [["12", "1234.0"], ["12.1", "1234.0"]]
    assert result.stderr == "note: 1 of its jobs: neither in the queue nor in the history\n"


def test_an_event_log_of_many_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a term of the question that the schedd is asked."""
    first = EVENT_LOG.splitlines(keepends=True)[0]
    log = "".join([first.replace("012.001", f"{n:03}.000") for n in range(1, 151)])
    asked: list[str] = []

    def past(jobs: list[str], schedd: str | None) -> bytes:
        asked.extend(jobs)
        return b""

    monkeypatch.setattr(usage, "queued", lambda jobs, schedd: b"")
    monkeypatch.setattr(usage, "past", past)
    result = usage_command("-", ad=log)
    assert asked == [f"{n}.0" for n in range(51, 151)]
    assert "of the 150 clusters in - the last 100 are shown" in result.stderr


def test_an_event_log_without_jobs() -> None:
    log = "035 (013.-01.-01) 2026-11-23 08:33:01 Cluster submitted from host: <127.0.0.1>\n...\n"
    result = usage_command("-", ad=log)
    assert result.stderr == "condor_ledge usage: -: there is no job in this log yet\n"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (999.4 * 1024, "999 KiB"),
     (999.5 * 1024, "0.98 MiB"), (16 << 30, "16.0 GiB"), (1 << 62, "4096 PiB")],
)  # fmt: skip
def test_sizes(number: float, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.0004, "0.000 s"), (0.25, "0.250 s"), (59.99, "59.99 s"), (59.996, "0:01:00"),
     (3599.6, "1:00:00"), (360000, "100:00:00")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_ages_and_shares() -> None:
    assert [age(s) for s in (-3, 119, 120, 7200, 172800)] == [
        "0 s", "119 s", "2 min", "2 h", "2 days",
    ]  # fmt: skip
    assert [percent(s) for s in (0, 0.0004, 0.004, 0.0994, 0.0995, 1.5)] == [
        "0 %", "<0.1 %", "0.4 %", "9.9 %", "10 %", "150 %",
    ]  # fmt: skip


def test_reasons_of_a_text_that_was_cut() -> None:
    both = "no a.b; not c: d"
    assert reasons(f"AB, C: {both}; D: e") == {"AB": both, "C": both, "D": "e"}
    assert reasons("AB: no; C, D") == {"AB": "no; C, D"}
    assert reasons("") == {}


# The columns of the tables for condor_q -pr, by their headings.
def columns(file: str) -> dict[str, str]:
    text = (SOURCE_ROOT / "share/condor-ledge" / file).read_text()
    found = re.findall(r"^   (\S.*) AS ('[^']*'|[A-Z]+) ", text, re.MULTILINE)
    return {heading.strip("' "): expression for expression, heading in found}


def printed(file: str, ad: str) -> dict[str, object]:
    job = classad2.parseNext(ad, classad2.ParserType.Old)
    values = {}
    for heading, expression in columns(file).items():
        value = classad2.ExprTree(expression).eval(job)
        values[heading] = None if value is classad2.Value.Undefined else value
    return values


@pytest.mark.parametrize("file", ["usage.cpf", "history.cpf"])
def test_print_formats(file: str) -> None:
    told = printed(file, FULL)
    assert told["CPU %"] == pytest.approx(100 * 527.9 / 4800)
    assert told["PEAK"] == pytest.approx(2254857830 / 1048576)
    assert (told["ASKED"], told["READ"]) == (16384, pytest.approx(94208, rel=1e-3))
    assert (told["TRACKING"], told["FIGURES"]) == ("cgroup", "LedgeUsage,exact")


@pytest.mark.parametrize("file", ["usage.cpf", "history.cpf"])
def test_print_formats_do_not_mix(file: str) -> None:
    ledge = record("Ledge", "running", TAKEN - 600, "CpuUserSeconds = 6; CpuSystemSeconds = 0")
    told = printed(file, FULL + ledge)
    assert told["CPU %"] == pytest.approx(100 * 6 / 2400)
    assert (told["PEAK"], told["TRACKING"], told["FIGURES"]) == (None, None, "Ledge,running")


@pytest.mark.parametrize("file", ["usage.cpf", "history.cpf"])
def test_print_formats_of_what_is_missing(file: str) -> None:
    told = printed(file, JOB + CHIRP)
    assert told["CPU %"] == pytest.approx(100 * 3 / 4800)
    assert (told["SENT"], told["FIGURES"]) == (None, "ChirpLedge")
    known = {name for name, value in printed(file, JOB).items() if value is not None}
    assert known == {"ID", "", "OWNER", "ASKED"}


def test_both_print_formats_have_the_same_columns() -> None:
    assert columns("usage.cpf") == columns("history.cpf")
    assert len(columns("usage.cpf")) == 12


def test_print_formats_are_installed(installed: Path) -> None:
    share = installed.parents[2] / "share/condor-ledge"
    assert sorted(path.name for path in share.glob("*.cpf")) == ["history.cpf", "usage.cpf"]
