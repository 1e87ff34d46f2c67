"""condor_ledge top and metrics on the pool: slots as HTCondor names them, its limits."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.pool.condor import Pool
from tests.pool.job import Job
from tests.pool.test_ledged import await_ledged

PATIENCE_SECONDS = 180.0
KEPT_MIB, LIMIT_MIB = 48, 128
TEXTFILE = "/run/ledge-test.prom"
JOB = f"""#!/usr/bin/python3 -ISE
import os, time
while time.process_time() < 1: pass
kept = bytearray({KEPT_MIB << 20})
for page in range(0, len(kept), 4096): kept[page] = 1
with open("data", "wb") as file:
    file.write(bytes(8 << 20))
    os.fsync(file.fileno())
open("running", "w").close()
while not os.path.exists("go"): time.sleep(0.2)
"""
DESCRIPTION = f"executable = job\nrequest_memory = {LIMIT_MIB}M\n"
Values = dict[tuple[str, str], float]


@pytest.fixture(scope="module")
def job(pool: Pool, _installed: None) -> Iterator[Job]:
    """It runs, and ledged has read what it keeps."""
    await_ledged(pool)
    job = pool.submit(DESCRIPTION, files={"job": JOB})
    job.wait("executing", PATIENCE_SECONDS)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while values(pool).get(("condor_ledge_slot_memory_bytes", "anon"), 0) < KEPT_MIB << 20:
        assert time.monotonic() < deadline
        time.sleep(1)
    yield job
    pool.remove_all_jobs()


def values(pool: Pool) -> Values:
    """By the metric and its kind or mode, if it has one; of the slots together."""
    pool.root(f"condor_ledge metrics --job-info --textfile {TEXTFILE}")
    found: Values = {}
    for family in text_string_to_metric_families(pool.get(TEXTFILE).decode()):
        for sample in family.samples:
            labels = sample.labels
            key = sample.name, labels.get("kind") or labels.get("mode") or labels.get("job") or ""
            found[key] = found.get(key, 0) + sample.value
    return found


def test_a_row_of_the_table(pool: Pool, job: Job) -> None:
    table = pool.root("condor_ledge top -b").stdout
    print(table)
    [row] = [line.split() for line in table.splitlines() if f" {job.id} " in line]
    slot = str(job.ad()["RemoteHost"]).rpartition("@")[0]
    assert row[:3] == [slot, job.id, job.user]
    assert row[4].endswith("M") and KEPT_MIB <= float(row[4][:-1]) < LIMIT_MIB
    assert row[9].isdigit() and int(row[9]) >= 1
    assert row[10][0] in "cmi"


def test_metrics_of_a_job_and_the_sums_after_its_end(pool: Pool, job: Job) -> None:
    found = values(pool)
    assert found["condor_ledge_job_info", job.id] == 1
    assert KEPT_MIB << 20 <= found["condor_ledge_slot_memory_bytes", "anon"] < LIMIT_MIB << 20
    assert found["condor_ledge_slot_memory_limit_bytes", ""] >= LIMIT_MIB << 20
    assert found["condor_ledge_slot_processes", ""] >= 1
    assert found["condor_ledge_node_block_written_bytes_total", ""] >= 8 << 20
    modes = ("user", "system")
    assert sum(found["condor_ledge_node_cpu_seconds_total", mode] for mode in modes) > 0.9
    pool.put("", job.path("go"))
    job.wait("terminated", PATIENCE_SECONDS)
    after = values(pool)
    assert after["condor_ledge_jobs", ""] == 0
    assert ("condor_ledge_job_info", job.id) not in after
    for name, label in found:
        if name.startswith("condor_ledge_node_"):
            assert after[name, label] >= found[name, label], name
