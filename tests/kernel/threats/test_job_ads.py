"""What is believed of a job's ad, and the evaluator that reads it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.ledged import Ledged
from tests.kernel.threats.attacker import Attacker, nobody, proc_status, wait_until

pytestmark = pytest.mark.requires("root", "userns", "cgroup2")

POLICY = """\
version: 1
rules:
  - name: mallory
    match: TARGET.Owner == "mallory"
    refuse: '"not here"'
  - name: no mounts
    match: TARGET.Owner == "oscar"
    namespaces: [ipc, uts]
    mounts: none
  - name: more than there are
    match: TARGET.Owner == "peggy"
    exclusive_cpus: 8000
"""


@pytest.fixture
def policy(ledged: Ledged) -> Iterator[None]:
    """A policy that refuses one owner's jobs, and gives those of another little."""

    def reload() -> None:
        begin = len(ledged.lines())
        ledged.process.send_signal(signal.SIGHUP)
        said = ("the policy is that of", f"there is no {ledged.policy}")
        wait_until(lambda: any(word in str(ledged.lines()[begin:]) for word in said), "no policy")

    ledged.policy.write_text(POLICY)
    reload()
    yield
    ledged.policy.unlink()
    reload()


@pytest.mark.usefixtures("policy")
def test_the_wrapper_cannot_take_back_what_the_hook_said(
    attacker: Attacker, installed: Path
) -> None:
    hook = Attacker(installed / "job_wrapper", attacker.execute, attacker.user, None)
    assert hook.forge("reserve", "mallory").startswith("refused")
    # The wrapper runs what LD_PRELOAD of the job's environment names, and may lie.
    assert "not here" in attacker.forge("reserve", "alice")
    assert "not here" in attacker.forge("reserve", "alice")
    assert hook.forge("reserve", "alice").startswith("done")
    assert attacker.forge("reserve", "mallory").startswith("done")


@pytest.mark.usefixtures("policy")
def test_what_no_job_can_have_is_refused_while_the_hook_can_hold_the_job(
    attacker: Attacker, installed: Path
) -> None:
    hook = Attacker(installed / "job_wrapper", attacker.execute, attacker.user, None)
    answer = hook.forge("reserve", "peggy")
    assert "cannot be enforced: cpuset.cpus: exclusive CPUs wanted 8000" in answer


@pytest.mark.usefixtures("policy")
def test_init_that_mounts_nothing_has_no_rights(attacker: Attacker, installed: Path) -> None:
    hook = Attacker(installed / "job_wrapper", attacker.execute, attacker.user, None)
    assert hook.forge("reserve", "oscar").startswith("done")
    lines = attacker.forge("attack_init", "after").splitlines()
    assert [line.split()[1] for line in lines if line.startswith("Cap")] == [f"{0:016x}"] * 2


def test_the_evaluator_has_nothing_to_lose(ledged: Ledged) -> None:
    (evaluator,) = ledged.children("ledged-policy")
    found = dict(line.split(":\t") for line in proc_status(evaluator).splitlines() if ":\t" in line)
    assert found["Uid"].split() == [str(nobody().uid)] * 4
    assert found["Groups"].strip() == ""
    assert {found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {f"{0:016x}"}
    assert found["NoNewPrivs"] == "1"
    links = [os.readlink(path) for path in Path(f"/proc/{evaluator}/fd").iterdir()]
    assert {link for link in links if not link.startswith("socket:")} == {"/dev/null"}
    assert os.stat(f"/proc/{evaluator}/environ").st_uid == 0  # not dumpable


def test_the_evaluator_is_killed(attacker: Attacker, ledged: Ledged) -> None:
    (evaluator,) = ledged.children("ledged-policy")
    os.kill(evaluator, signal.SIGKILL)
    assert attacker.run("/bin/echo", "ran").check() == b"ran\n"
