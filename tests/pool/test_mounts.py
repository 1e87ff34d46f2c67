"""Mounts of a policy and of jobs on the pool: what they see, what is charged to whom, who is held.

All jobs are submitted at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.pool.condor import Pool
from tests.pool.job import Job, Submission
from tests.pool.test_ledged import await_ledged
from tests.pool.test_limits import HELD_BY_HOOK, PATIENCE_SECONDS, REFUSED, policy

MIB = 1 << 20
PLACE = "/srv/ledge-mounts"
POLICY = f"""
version: 1
defaults:
  mounts:
  - {{kind: tmpfs, target: /tmp, size: 48M}}
  - {{kind: private, target: /var/tmp}}
  - {{kind: tmpfs, target: /dev/shm}}
  - {{kind: devpts, target: /dev/pts}}
  - {{kind: overlay, source: {PLACE}/software, target: {PLACE}/site}}
  requests:
    mounts:
      at_most:
      - {{kind: bind, source: {PLACE}/data, target: {PLACE}/reference, read_only: true}}
      - {{kind: tmpfs, target: {PLACE}/scratch, size: 8M}}
"""
SET_UP = f"""set -e
mkdir -p {PLACE}/software/lib {PLACE}/site {PLACE}/data {PLACE}/reference {PLACE}/scratch
echo original >{PLACE}/software/lib/file
echo data >{PLACE}/data/file
"""

# What is written to /tmp is there for some samples: 64 MiB of which 48 fit.
MEMORY = """#!/bin/sh
dd if=/dev/zero of=/tmp/x bs=1M count=64 2>/dev/null
stat -c %s /tmp/x
sleep 8
"""
OVERLAY = f"""#!/bin/sh
cd {PLACE}/site
cat lib/file && echo mine >top && cat top
echo x >>lib/file && echo "changed what is root's"
true
"""
ASKED = f"""#!/bin/sh
cat {PLACE}/reference/file
touch {PLACE}/reference/x && echo "changed what is read-only"
stat -f -c "%T %b %S" {PLACE}/scratch
"""
ASKING = f"bind:{PLACE}/data:{PLACE}/reference:ro, tmpfs:{PLACE}/scratch:4M"
SUBMISSIONS = {
    "memory": (MEMORY, ""),
    "overlay": (OVERLAY, ""),
    "asked": (ASKED, ASKING),
    "etc": ("", "tmpfs:/etc"),
    "missing": ("", f"tmpfs:{PLACE}/scratch/none"),
}


class Seen(NamedTuple):
    """What became of a job."""

    job: Job
    ad: dict[str, Any]

    def lines(self) -> list[str]:
        return self.job.output().decode().splitlines()


@pytest.fixture(scope="module")
def seen(pool: Pool, _installed: None) -> Iterator[dict[str, Seen]]:
    await_ledged(pool)
    pool.root(SET_UP)
    try:
        with policy(pool, POLICY):
            submissions = [
                Submission(
                    "executable = job\nrequest_memory = 256\n"
                    + (f'My.LedgeMounts = "{asked}"\n' if asked else ""),
                    name=name,
                    files={"job": script or "#!/bin/sh\n"},
                )
                for name, (script, asked) in SUBMISSIONS.items()
            ]
            jobs = dict(zip(SUBMISSIONS, pool.submit_all(submissions)))
            for name, job in jobs.items():
                refused = name in ("etc", "missing")
                job.wait(pool.release.refused if refused else "terminated", PATIENCE_SECONDS)
            yield {name: Seen(job, job.ad()) for name, job in jobs.items()}
            pool.remove_all_jobs()
    finally:
        pool.root(f"rm -rf {PLACE}")


def test_what_is_in_a_tmpfs_is_memory_of_the_job_s(seen: dict[str, Seen]) -> None:
    memory = seen["memory"]
    print(memory.ad.get("ChirpLedgeMemoryPeakBytes"), memory.ad.get("ChirpLedgeMounts"))
    assert memory.lines() == [str(48 * MIB)]
    assert memory.ad["ChirpLedgeMemoryPeakBytes"] >= 48 * MIB
    assert seen["overlay"].ad["ChirpLedgeMemoryPeakBytes"] < 40 * MIB
    assert memory.ad["ChirpLedgeMounts"].split(", ")[0] == "tmpfs:/tmp:48M"


def test_an_overlay_is_changed_for_the_job_alone(pool: Pool, seen: dict[str, Seen]) -> None:
    assert seen["overlay"].lines() == ["original", "mine"]
    assert pool.root(f"ls {PLACE}/software").stdout.split() == ["lib"]
    assert seen["overlay"].ad["ExitCode"] == 0


def test_what_a_job_writes_itself(seen: dict[str, Seen]) -> None:
    assert seen["asked"].lines() == ["data", "tmpfs 1024 4096"]
    assert seen["asked"].ad["ChirpLedgeMounts"].endswith(ASKING)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("etc", ["LedgeMounts of the job asks for tmpfs:/etc", "(defaults (/etc/condor-ledge/pol"]),
        ("missing", [f"{PLACE}/scratch/none: No such file or directory"]),
    ],
)
@pytest.mark.since_htcondor(24, 8)
def test_what_a_job_may_not_have_is_a_hold(
    seen: dict[str, Seen], name: str, words: list[str]
) -> None:
    ad = seen[name].ad
    print(ad["HoldReason"])
    assert (ad["HoldReasonCode"], ad["HoldReasonSubCode"]) == (HELD_BY_HOOK, REFUSED)
    assert [word for word in words if word not in ad["HoldReason"]] == []
