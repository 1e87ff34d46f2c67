"""Readings of a real control group: each of its moment, and its end is no error."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from ledge.daemon.sampling import Sample
from ledge.kernel.cgroup2 import Cgroup
from ledge.kernel.kept_files import Allowance
from tests.kernel.cgroups import Slice

pytestmark = pytest.mark.requires("root", "cgroup2")

NAME = "ledge-1"
PARTS = ("User", "System")
BURN = "import time\nwhile time.process_time() < 0.2: pass"


@pytest.fixture
def slice_() -> Iterator[Slice]:
    slice_ = Slice(f"ledge-test-{os.getpid()}.slice", os.getuid())
    (slice_.path / NAME).mkdir()
    yield slice_
    slice_.remove()


@pytest.mark.parametrize("files", [100, 0], ids=["kept open", "opened each time"])
def test_cpu_time_grows_and_the_last_reading_outlives_the_group(slice_: Slice, files: int) -> None:
    group = Cgroup.open(os.fsencode(slice_.path))
    sample = Sample(group, NAME.encode(), Allowance(files))
    procs = slice_.path / NAME / "cgroup.procs"
    seconds = []
    for _ in range(3):
        line = [sys.executable, "-S", "-c", BURN]
        subprocess.run(line, preexec_fn=lambda: procs.write_text("0"), check=True)
        sample.take()
        usage = sample.usage()
        assert usage is not None
        seconds.append(sum(usage.figures[f"Cpu{part}Seconds"] or 0 for part in PARTS))
    assert [second > first + 0.15 for first, second in zip([0.0, *seconds], seconds)] == [True] * 3
    taken = sample.taken
    assert group.remove(NAME.encode())
    sample.take()
    sample.take_last()
    assert sample.taken == taken
    after = sample.usage()
    assert after is not None
    assert sum(after.figures[f"Cpu{part}Seconds"] or 0 for part in PARTS) == seconds[-1]
    sample.close()
    group.close()


def test_what_was_read_at_the_end_holds_until_somebody_runs_again(slice_: Slice) -> None:
    group = Cgroup.open(os.fsencode(slice_.path))
    own = Cgroup.open(NAME.encode(), group.fd)
    sample = Sample(group, NAME.encode(), Allowance(100))
    procs = slice_.path / NAME / "cgroup.procs"
    sleeper = subprocess.Popen(["sleep", "600"])
    procs.write_text(str(sleeper.pid))
    sample.take_last()
    exact = [sample.exact]
    sleeper.kill()
    sleeper.wait()
    for _ in range(100):
        if not own.populated():
            break
        time.sleep(0.01)
    sample.take_last()
    assert [*exact, sample.exact, sample.is_still_exact(own)] == [False, True, True]
    taken = sample.taken
    line = [sys.executable, "-S", "-c", BURN]
    subprocess.run(line, preexec_fn=lambda: procs.write_text("0"), check=True)
    sample.take()
    assert sample.taken == taken  # nothing was told, so what was read stays ...
    assert not sample.is_still_exact(own)  # ... but whoever asks at the end sees that it is old
    sample.go_on()
    sample.take()
    assert sample.taken != taken
    sample.close()
    own.close()
    group.close()
