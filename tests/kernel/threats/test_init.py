"""Init, while it has rights and after."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ledge.kernel import syscalls
from tests.kernel.threats.attacker import Attacker, assert_serving

pytestmark = pytest.mark.requires("root", "userns", "cgroup2")


@pytest.mark.parametrize("moment", ["before", "after"])
def test_init_is_no_way_to_anything(attacker: Attacker, moment: str) -> None:
    """Before the handover, when it may mount, and after it; by a process of the same user's."""
    lines = attacker.forge("attack_init", moment).splitlines()
    tried = dict(line.split(": ") for line in lines if ": " in line)
    refused = {"Permission denied", "Operation not permitted"}
    assert {tried[name] for name in tried} <= refused, tried
    assert len(tried) == 11
    found = {line.split()[0]: line.split()[1] for line in lines if line.split()[0].endswith(":")}
    assert found["Uid:"] == str(attacker.user.uid)
    mounting = f"{1 << syscalls.CAP_SYS_ADMIN:016x}" if moment == "before" else f"{0:016x}"
    assert found["CapEff:"] == found["CapPrm:"] == mounting
    # Signals that would have made it dump core it has passed on to the job.
    deadly = {signal.SIGSEGV, signal.SIGABRT, signal.SIGQUIT, signal.SIGTERM}
    (ended,) = [line for line in lines if line.startswith(("ended ", "told: ended "))]
    assert int(ended.partition("ended ")[2].split()[0]) & 0x7F in deadly
    assert not list(Path("/").glob("core*"))


def test_init_is_killed_before_it_has_anything(attacker: Attacker) -> None:
    assert attacker.forge("signal_init", str(int(signal.SIGKILL))) == "told: "


def test_init_is_stopped_before_it_has_anything(attacker: Attacker) -> None:
    process = attacker.attack("signal_init", str(int(signal.SIGSTOP)))
    process.wait_for("sent")
    assert_serving()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    # It is stopped still: that is what HTCondor's starter kills the slice's processes for.
    assert attacker.slice is not None
    (attacker.slice.path / "cgroup.kill").write_text("1")
