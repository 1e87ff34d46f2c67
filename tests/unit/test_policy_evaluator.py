"""The evaluator, a real process with the real classad2: hostile ads, floods, deaths, reloads.

One file, although a long one: one process serves most of the tests, and must outlive them all.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ledge.plan.document import plan_document
from ledge.plan.plan import Mount, Plan
from ledge.policy import evaluator as evaluator_module
from ledge.policy import sandbox, wire
from ledge.policy.decision import LONGEST_REFUSAL, Decision
from ledge.policy.errors import PolicyError
from ledge.policy.evaluator import LARGEST_BACKLOG, NOBODY, Evaluator
from ledge.policy.expressions import LARGEST_AD
from ledge.policy.sandbox import LONGEST_SECONDS, MOST_AT_ONCE
from ledge.policy.wire import read_decision

MACHINE = b"Memory = 2048\nCpus = 4\n"
JOB = b"RequestCpus = 2\n"
POLICY = """\
version: 1
without_daemon: hold
defaults:
  pids_max: 100 * TARGET.RequestCpus
rules:
- name: hostile
  match: TARGET.Try
  io_weight: TARGET.Hostile
"""


def received(evaluator: Evaluator, tokens: set[int], seconds: float = 60) -> dict[int, Decision]:
    """What comes for the tokens, each once."""
    decisions: dict[int, Decision] = {}
    until = time.monotonic() + seconds
    while set(decisions) != tokens:
        assert select.select([evaluator], [], [], until - time.monotonic())[0], "too late"
        for token, decision in evaluator.receive():
            assert token in tokens - set(decisions)
            decisions[token] = decision
    return decisions


def ask(evaluator: Evaluator, job: bytes, machine: bytes = MACHINE) -> Decision:
    evaluator.submit(1, job, machine)
    return received(evaluator, {1})[1]


def refusal(evaluator: Evaluator, job: bytes, machine: bytes = MACHINE) -> str:
    decision = ask(evaluator, job, machine)
    assert decision.plan is None
    assert decision.refusal is not None
    assert decision.refusal.isprintable() and len(decision.refusal) <= LONGEST_REFUSAL
    return decision.refusal


def pids_max(decision: Decision) -> int | None:
    assert decision.plan is not None, decision.refusal
    return decision.plan.limits.pids_max


@contextmanager
def running(
    path: Path, text: str | None = POLICY, reports: list[str] | None = None
) -> Iterator[Evaluator]:
    if text is not None:
        path.write_text(text)
    evaluator = Evaluator(str(path), report=(reports if reports is not None else []).append)
    try:
        yield evaluator
    finally:
        evaluator.close()


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evaluator]:
    """One for all tests that leave it alive."""
    with running(tmp_path_factory.mktemp("policy") / "policy.yaml") as evaluator:
        pid = evaluator.pid
        yield evaluator
        assert evaluator.pid == pid, "it had to be started anew"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Evaluator]:
    """One that a test may break; its policy is policy.yaml in tmp_path."""
    with running(tmp_path / "policy.yaml") as evaluator:
        yield evaluator


def forging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mount: Mount) -> Evaluator:
    """An evaluator in which somebody has taken over the process that decides."""

    def forge(*_: object) -> Decision:
        plan = Plan()
        plan.mounts += (mount,)
        return Decision(plan, None, {}, ())

    monkeypatch.setattr(sandbox, "decide", forge)
    (tmp_path / "policy.yaml").write_text(POLICY)
    return Evaluator(str(tmp_path / "policy.yaml"))


def test_a_forged_mount_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(forging(tmp_path, monkeypatch, Mount("bind", "/etc", "/tmp/etc"))) as evaluator:
        assert "a mount that this node's policy has not" in refusal(evaluator, JOB)


def test_a_policy_that_changes_while_it_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the old policy allowed is no forgery for who asked under it."""
    old = POLICY.replace("rules:", "  mounts: [{kind: tmpfs, target: /etc/x}]\nrules:")
    with closing(forging(tmp_path, monkeypatch, Mount("tmpfs", "/etc/x"))) as evaluator:
        (tmp_path / "policy.yaml").write_text(old)
        assert evaluator.reload() is None
        evaluator.submit(1, JOB, MACHINE)
        (tmp_path / "policy.yaml").write_text(POLICY)
        assert evaluator.reload() is None
        assert received(evaluator, {1})[1].plan is not None
        assert "has not" in refusal(evaluator, JOB)


def test_a_plan_comes_back(evaluator: Evaluator) -> None:
    decision = ask(evaluator, JOB)
    assert pids_max(decision) == 200
    assert decision.origins["pids_max"].startswith("defaults (/")
    assert decision.refusal is None
    assert evaluator.terms.without_daemon == "hold"


def doubling(value: str, step: str) -> bytes:
    lines = [f"A{i} = {step.replace('A', f'A{i - 1}')}" for i in range(1, 41)]
    return "\n".join([f"A0 = {value}", *lines, "Hostile = A40", ""]).encode()


def chain(length: int) -> bytes:
    lines = [f"A{i} = A{i - 1} + 1" for i in range(1, length)]
    return "\n".join(["A0 = 1", *lines, f"Hostile = A{length - 1}", ""]).encode()


# Each of them takes 20 ms, which is too little for PCRE to give up, and hardly any memory.
SLOW = b'regexp("^(a+)+$", "%s!")' % (b"a" * 20)
NEVER = b"Try = true\nHostile = sum({%s})\n" % b", ".join([SLOW] * 2000)

HOSTILE = [
    # name, job ad, what the refusal says
    ("strings that double", doubling('"x"', "strcat(A, A)"), "takes too much memory"),
    ("sums that double", doubling("1", "A + A"), "takes too much memory"),
    ("lists that double", doubling("{1}", "{A, A}"), "policy.yaml:"),
    ("nested calls", doubling('"1"', "ifThenElse(A == A, A, A)"), "takes too much memory"),
    ("itself", b"Hostile = Hostile\n", "is undefined"),
    ("each other", b"Hostile = A\nA = B\nB = Hostile + 1\n", "is undefined"),
    ("each other through the slot", b"Hostile = TARGET.A\nA = MY.Hostile\n", "is undefined"),
    ("eval of itself", b'Hostile = eval("Hostile")\n', "is undefined"),
    ("a long chain", chain(5000), "cannot be evaluated: it is nested too deeply"),
    ("a long sum", b"Hostile = " + b"1+" * 500000 + b"1\n", "crashes the ClassAd library"),
    ("half a MB of parentheses", b"Hostile = " + b"(" * 500000, "is no attribute"),
    ("1 MB of parentheses", b"Hostile = " + b"(" * 520000 + b")" * 520000, "is no attribute"),
    ("1 MB of brackets", b"Hostile = " + b"{" * 520000 + b"}" * 520000, "is no attribute"),
    ("1 MB of ads", b"Hostile = " + b"[a=" * 260000 + b"1" + b"]" * 260000, "is no attribute"),
    ("1 MB of minus signs", b"Hostile = " + b"-" * 1000000 + b"1", "is no attribute"),
    ("1 MB of one string", b'Hostile = "' + b"x" * 1000000 + b'"\n', "expected a whole number"),
    ("NUL bytes", b"Hostile = 5\0\n", "has a NUL byte"),
    ("nothing but NUL bytes", bytes(100000), "has a NUL byte"),
    ("no ad", b"\x80\x81\xff" * 1000, "is no attribute"),
    ("an attribute too many", b"Hostile = 5\nOwner\n", "is no attribute"),
    ("an integer too large", b"Hostile = 99999999999999999999\n", "is 0; expected"),
    ("infinity", b"Hostile = 1e999\n", "is inf; expected"),
    ("control characters", b'Hostile = "\x1b[2J\x07\r"\n', "expected a whole number"),
    ("an ad", b"Hostile = [a = 1]\n", "is an ad; expected"),
    ("a time", b'Hostile = absTime("2025-01-01")\n', "is a time; expected"),
    ("a time too late", b'Hostile = absTime("9999999-01-01")\n', "a value that cannot be read"),
    ("half a character", 'Hostile = substr("é", 0, 1)\n'.encode(), "a value that cannot be read"),
    ("division by zero", b"Hostile = 1 / 0\n", "is an error"),
    ("a function that there is none of", b"Hostile = nothing(1)\n", "is an error"),
    ("files", b'Hostile = userHome("daemon")\n', "is undefined"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("job", "words"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE]
)
def test_hostile_ads_are_refused_and_nothing_else_happens(
    evaluator: Evaluator, job: bytes, words: str
) -> None:
    started = time.monotonic()
    text = refusal(evaluator, JOB + b"Try = true\n" + job)
    assert words in text
    assert time.monotonic() - started < 10 * LONGEST_SECONDS  # of CPU time, on a busy machine
    assert pids_max(ask(evaluator, JOB)) == 200


def test_what_does_not_end_is_ended_and_delays_nobody(evaluator: Evaluator) -> None:
    endless = range(100, 100 + MOST_AT_ONCE - 1)
    for token in endless:
        evaluator.submit(token, JOB + NEVER, MACHINE)
    assert pids_max(ask(evaluator, JOB)) == 200  # and nothing comes before it
    for decision in received(evaluator, set(endless)).values():
        assert decision.refusal is not None
        assert f"does not end within {LONGEST_SECONDS:g} s of CPU time" in decision.refusal
        assert "policy.yaml:8: rule hostile: io_weight: TARGET.Hostile: " in decision.refusal


def test_more_than_fit_at_once_wait_their_turn(evaluator: Evaluator) -> None:
    tokens = set(range(100))
    for token in tokens:
        evaluator.submit(token, b"RequestCpus = %d\n" % (token + 1), MACHINE)
    decisions = received(evaluator, tokens)
    assert {token: pids_max(decision) for token, decision in decisions.items()} == {
        token: 100 * (token + 1) for token in tokens
    }


def test_large_ads_that_fill_the_socket(evaluator: Evaluator) -> None:
    padding = b'Padding = "' + b"x" * (LARGEST_AD - 100) + b'"\n'
    tokens = set(range(20))
    for token in tokens:
        evaluator.submit(token, padding + b"RequestCpus = %d\n" % (token + 1), MACHINE + padding)
    assert evaluator.pending
    decisions = received(evaluator, tokens)
    assert [pids_max(decisions[token]) for token in sorted(tokens)] == [
        100 * (token + 1) for token in sorted(tokens)
    ]
    assert not evaluator.pending


def test_the_largest_ad_and_one_byte_more(evaluator: Evaluator) -> None:
    for length, words in ((LARGEST_AD, ""), (LARGEST_AD + 1, "job ad has 1048577 bytes")):
        job = JOB + b"#" * (length - len(JOB))
        decision = ask(evaluator, job)
        assert words in (decision.refusal or "")
        assert (decision.plan is None) == bool(words)
    assert "machine ad has" in refusal(evaluator, JOB, b"#" * (LARGEST_AD + 1))


def test_too_many_are_refused_at_once_and_the_others_decided(evaluator: Evaluator) -> None:
    padding = b'Padding = "' + b"x" * (LARGEST_AD - 100) + b'"\n'
    tokens = set(range(LARGEST_BACKLOG // LARGEST_AD + 5))
    for token in tokens:
        evaluator.submit(token, JOB + padding, MACHINE)
    decisions = received(evaluator, tokens, 60)
    refused = [token for token, decision in decisions.items() if decision.plan is None]
    assert 0 < len(refused) < 20
    assert "too many jobs wait" in (decisions[refused[0]].refusal or "")


def test_a_token_in_use_is_an_error_of_the_caller(evaluator: Evaluator) -> None:
    evaluator.submit(1, JOB, MACHINE)
    with pytest.raises(ValueError, match="in use"):
        evaluator.submit(1, JOB, MACHINE)
    received(evaluator, {1})


@pytest.mark.requires("root")
def test_nothing_is_left_of_many_decisions(evaluator: Evaluator) -> None:
    def held() -> tuple[int, int]:
        return len(os.listdir(f"/proc/{evaluator.pid}/fd")), len(os.listdir("/proc/self/fd"))

    ask(evaluator, JOB)
    before = held()
    for start in range(0, 60, 20):
        for token in range(start, start + 20):
            evaluator.submit(token, JOB + b"Try = 1 / 0\n" * (token % 2), MACHINE)
        received(evaluator, set(range(start, start + 20)))
    assert held() == before
    assert not Path(f"/proc/{evaluator.pid}/task/{evaluator.pid}/children").read_text().split()


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.partition(":")[0]: line.partition(":")[2].strip() for line in lines}


def test_it_cannot_gain_privileges(evaluator: Evaluator) -> None:
    status = status_of(evaluator.pid)
    assert status["Name"] == "ledged-policy"
    assert status["NoNewPrivs"] == "1"


@pytest.mark.requires("root")
def test_it_has_no_privileges_and_no_descriptors(evaluator: Evaluator) -> None:
    status = status_of(evaluator.pid)
    assert status["Uid"].split() == status["Gid"].split() == [str(NOBODY)] * 4
    assert status["Groups"] == ""
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[capabilities], 16) == 0
    links = [os.readlink(f"/proc/{evaluator.pid}/fd/{fd}")
             for fd in os.listdir(f"/proc/{evaluator.pid}/fd")]  # fmt: skip
    assert [link for link in links if not link.startswith("socket:")] == ["/dev/null"] * 3
    assert len(links) == 5
    # Not dumpable: neither traced nor looked into by another process of that user.
    assert os.stat(f"/proc/{evaluator.pid}/environ").st_uid == 0


def limits_of(pid: int) -> dict[str, str]:
    """The soft limits."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {line[:25].strip(): line[25:].split()[0] for line in lines}


def child_of(evaluator: Evaluator) -> int:
    """The child that decides about a job which does not end."""
    evaluator.submit(50, JOB + NEVER, MACHINE)
    children = Path(f"/proc/{evaluator.pid}/task/{evaluator.pid}/children")
    until = time.monotonic() + 5
    while time.monotonic() < until:
        for pid in map(int, children.read_text().split()):
            if limits_of(pid)["Max cpu time"] == str(int(LONGEST_SECONDS)):  # the last to be set
                return pid
        time.sleep(0.005)
    raise AssertionError("no child was seen")


def test_its_children_can_do_even_less(evaluator: Evaluator) -> None:
    child = child_of(evaluator)
    limits = limits_of(child)
    assert limits["Max open files"] == limits["Max processes"] == "0"
    assert limits["Max file size"] == limits["Max core file size"] == "0"
    # Of the process that it was forked from, which is this one's fork, and some more.
    ours = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    assert int(limits["Max address space"]) < ours + (1 << 30)
    if os.geteuid() == 0:
        links = [os.readlink(f"/proc/{child}/fd/{fd}") for fd in os.listdir(f"/proc/{child}/fd")]
        assert sorted(link.partition(":")[0] for link in links) == ["/dev/null"] * 3 + ["pipe"]
    os.kill(child, signal.SIGKILL)
    received(evaluator, {50})


def test_a_child_that_is_killed_is_a_refusal(evaluator: Evaluator) -> None:
    os.kill(child_of(evaluator), signal.SIGSEGV)
    assert "crashes the ClassAd library" in (received(evaluator, {50})[50].refusal or "")


def test_a_new_policy_is_put_in_force(own: Evaluator) -> None:
    path = Path(own.policy_path)
    path.write_text("version: 1\nwithout_daemon: run\ndefaults: {pids_max: 7}\n")
    assert pids_max(ask(own, JOB)) == 200
    assert own.reload() is None
    assert pids_max(ask(own, JOB)) == 7
    assert own.terms.without_daemon == "run"
    path.unlink()
    assert own.reload() is None
    assert pids_max(ask(own, JOB)) is None
    assert own.terms.without_daemon == "hold"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("version: 2\n", "policy.yaml:1: version: expected 1"),
        ("version: 1\ndefaults:\n  pids_max: 1 +\n  x: 1\n", "policy.yaml:3: pids_max: expected"),
        ("", "policy.yaml:1: expected a line version: 1"),
        ("#" * 300000, "a policy has at most 262144 bytes"),
    ],
    ids=["another version", "two errors", "empty", "too large"],
)
def test_a_bad_policy_leaves_the_old_one_in_force(own: Evaluator, text: str, words: str) -> None:
    Path(own.policy_path).write_text(text)
    problem = own.reload()
    assert problem is not None and words in problem
    assert ("(and 1 more)" in problem) == ("x: 1" in text)
    assert pids_max(ask(own, JOB)) == 200
    assert own.terms.without_daemon == "hold"


def test_a_policy_that_cannot_be_read_leaves_the_old_one_in_force(own: Evaluator) -> None:
    Path(own.policy_path).unlink()
    Path(own.policy_path).mkdir()
    assert "Is a directory" in (own.reload() or "")
    assert pids_max(ask(own, JOB)) == 200


def test_requests_are_decided_by_the_policy_of_their_time(own: Evaluator) -> None:
    tokens = set(range(50))
    for token in tokens:
        own.submit(token, JOB, MACHINE)
    Path(own.policy_path).write_text("version: 1\ndefaults: {pids_max: 7}\n")
    assert own.reload() is None
    assert {pids_max(decision) for decision in received(own, tokens).values()} <= {200, 7}
    assert pids_max(ask(own, JOB)) == 7


def test_it_starts_without_a_policy_file(tmp_path: Path) -> None:
    with running(tmp_path / "none.yaml", None) as evaluator:
        assert evaluator.terms.without_daemon == "hold"
        assert pids_max(ask(evaluator, JOB)) is None


@pytest.mark.parametrize("text", ["version: 2", "defaults: {}"])
def test_it_does_not_start_with_a_bad_policy(tmp_path: Path, text: str) -> None:
    with pytest.raises(PolicyError, match=r"policy\.yaml:1: "), running(
        tmp_path / "policy.yaml", text
    ):
        pass


@pytest.mark.requires("root")
def test_a_policy_for_roots_eyes_only(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    path.chmod(0o600)
    with running(path, None) as evaluator:
        assert pids_max(ask(evaluator, JOB)) == 200


def test_one_that_has_died_is_started_anew(own: Evaluator) -> None:
    pid = own.pid
    os.kill(pid, signal.SIGKILL)
    for token in range(20):
        own.submit(token, JOB, MACHINE)
    decisions = received(own, set(range(20)))
    assert {pids_max(decision) for decision in decisions.values()} == {200}
    assert own.pid != pid and not own.died
    assert not os.path.exists(f"/proc/{pid}")


def test_one_that_dies_with_requests_gets_them_once_more_and_then_they_are_refused(
    own: Evaluator,
) -> None:
    fd = own.fileno()
    own.submit(1, JOB + NEVER, MACHINE)
    os.kill(own.pid, signal.SIGKILL)
    assert select.select([own], [], [], 5)[0]
    assert own.receive() == []  # started anew, and asked once more
    own.submit(2, JOB, MACHINE)
    os.kill(own.pid, signal.SIGKILL)
    decisions = received(own, {1, 2})
    assert "has died over it twice" in (decisions[1].refusal or "")
    assert pids_max(decisions[2]) == 200
    assert own.fileno() == fd


def test_its_children_die_with_it(own: Evaluator) -> None:
    child = child_of(own)
    os.kill(own.pid, signal.SIGKILL)
    until = time.monotonic() + 2
    while os.path.exists(f"/proc/{child}") and status_of(child)["State"][0] != "Z":
        assert time.monotonic() < until
        time.sleep(0.005)


def test_a_policy_in_force_survives_its_file_and_the_process(own: Evaluator) -> None:
    Path(own.policy_path).write_text("version: 2")
    assert own.reload()
    os.kill(own.pid, signal.SIGKILL)
    assert pids_max(ask(own, JOB)) == 200


def test_one_that_cannot_be_started_again_refuses_all(
    own: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.submit(1, JOB + NEVER, MACHINE)
    monkeypatch.setattr(own, "_document", b"version: 2")
    os.kill(own.pid, signal.SIGKILL)
    assert "version: expected 1" in (received(own, {1})[1].refusal or "")
    assert own.died
    assert "is not running" in refusal(own, JOB)
    assert own.reload() is not None
    # Some seconds later it is tried again.
    monkeypatch.setattr(own, "_document", POLICY.encode())
    monkeypatch.setattr(own, "_not_before", 0.0)
    assert pids_max(ask(own, JOB)) == 200


def test_an_error_in_the_process_is_reported_and_the_job_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(server: sandbox._Server, request: object) -> None:
        raise RuntimeError("a mistake in condor-ledge")

    monkeypatch.setattr(sandbox._Server, "start", fail)
    reports: list[str] = []
    with running(tmp_path / "policy.yaml", POLICY, reports) as evaluator:
        assert "has died over it twice" in refusal(evaluator, JOB)
    assert [line for line in reports if "RuntimeError('a mistake in condor-ledge')" in line]


def test_one_that_does_not_speak_as_it_should_is_not_believed(
    own: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "LARGEST_ANSWER", 10)
    pid = own.pid
    assert "has died over it twice" in refusal(own, JOB)
    assert own.pid != pid


def test_one_that_will_not_live_is_left_alone_for_a_while(
    own: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator_module, "_MOST_RESTARTS", 3)
    monkeypatch.setattr(evaluator_module, "_PAUSE_SECONDS", 60.0)  # on a busy machine, too
    for _ in range(3):
        os.kill(own.pid, signal.SIGKILL)
        assert select.select([own], [], [], 5)[0]
        assert own.receive() == [] and not own.died
    os.kill(own.pid, signal.SIGKILL)
    assert "is not running: it has died 3 times" in refusal(own, JOB)
    assert "is not running; the log" in refusal(own, JOB)
    assert own.died


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_to_the_whole_group_is_for_the_daemon(
    evaluator: Evaluator, number: signal.Signals
) -> None:
    os.kill(evaluator.pid, number)
    assert pids_max(ask(evaluator, JOB)) == 200


def test_a_daemon_that_reaps_all_its_children(own: Evaluator) -> None:
    os.kill(own.pid, signal.SIGKILL)
    os.waitpid(own.pid, 0)
    assert pids_max(ask(own, JOB)) == 200


def test_it_ends_when_the_daemon_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    hear, tell = os.pipe()
    daemon = os.fork()
    if daemon == 0:
        try:
            os.write(tell, b"%d" % Evaluator(str(path)).pid)
        finally:
            os._exit(0)  # without close()
    os.close(tell)
    os.waitpid(daemon, 0)
    pid = int(os.read(hear, 20))
    os.close(hear)
    until = time.monotonic() + 5
    while os.path.exists(f"/proc/{pid}") and status_of(pid)["State"][0] != "Z":
        assert time.monotonic() < until
        time.sleep(0.01)


def test_close_ends_it_and_may_be_called_twice(tmp_path: Path) -> None:
    with running(tmp_path / "policy.yaml") as evaluator:
        pid = evaluator.pid
        evaluator.close()
        assert not os.path.exists(f"/proc/{pid}")


def test_classad2_is_not_imported_by_the_daemon() -> None:
    code = (
        "import sys; from ledge.policy.evaluator import Evaluator\n"
        "e = Evaluator('/nonexistent'); e.close()\n"
        "sys.exit(any(name in sys.modules for name in ('classad2', 'yaml')))"
    )
    root = Path(evaluator_module.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"{", b"null", b"[]", b"{}", b'"x"', b"[" * 100000,
        b'{"plan": null, "refusal": null, "origins": {}, "notes": []}',
        b'{"plan": 5, "refusal": null, "origins": {}, "notes": []}',
        b'{"plan": "{}", "refusal": null, "origins": {}, "notes": []}',
        b'{"plan": "{\\"version\\": 1}", "refusal": "no", "origins": {}, "notes": []}',
        b'{"plan": "{\\"version\\": 1}", "refusal": null, "origins": [], "notes": []}',
        b'{"plan": "{\\"version\\": 1}", "refusal": null, "origins": {"a": 1}, "notes": []}',
        b'{"plan": "{\\"version\\": 1}", "refusal": null, "origins": {}, "notes": "x"}',
        b'{"plan": "{\\"version\\": 1}", "refusal": null, "origins": {}, "notes": ["\\n"]}',
        b'{"plan": "{\\"version\\": 1, \\"limits\\": {\\"pids_max\\": 0}}", "refusal": null, '
        b'"origins": {}, "notes": []}',
        b'{"plan": null, "refusal": 5, "origins": {}, "notes": []}',
    ],
)  # fmt: skip
def test_an_answer_that_is_no_decision_is_a_refusal(answer: bytes) -> None:
    decision = read_decision(answer)
    assert decision.plan is None
    assert "the evaluator's answer is no decision" in (decision.refusal or "")


def test_an_answer_with_a_plan_is_checked_like_a_file() -> None:
    answer = b'{"plan": "{\\"version\\": 1}", "refusal": null, "origins": {}, "notes": ["n"]}'
    decision = read_decision(answer)
    assert decision.plan is not None and plan_document(decision.plan)["limits"] == {}
    assert decision.notes == ("n",)
