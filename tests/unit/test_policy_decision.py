"""What a policy makes of a job and its slot: values, rules, requests, refusals, with classad2.

It is one file, although a long one: all tables are decided on by the same helpers and two ads.
"""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledge.plan.document import plan_document
from ledge.plan.plan import Plan
from ledge.policy.decision import LONGEST_REFUSAL, Decision, decide, refusal
from ledge.policy.document import read_policy
from ledge.policy.keys import KEYS
from ledge.policy.model import built_in_policy
from ledge.policy.wire import read_decision, written_decision

MACHINE = b"""\
Name = "slot1_1@node"
Machine = "node"
Memory = 2048
Cpus = 4
TotalMemory = 8192
"""
JOB = b"""\
ClusterId = 17
ProcId = 0
Owner = "alice"
RequestCpus = 2
RequestMemory = 1024
Note = "text"
"""


def decided(policy: str, job: bytes = b"", machine: bytes = MACHINE) -> Decision:
    document = read_policy(("version: 1\n" + policy).encode(), "policy.yaml")
    decision = decide(document, JOB + job, machine)
    # What the evaluator sends is what the daemon gets.
    received = read_decision(written_decision(decision))
    assert received._replace(plan=None) == decision._replace(plan=None)
    assert [document_of(each) for each in (received, decision)] == [document_of(decision)] * 2
    return received


def document_of(decision: Decision) -> dict[str, object] | None:
    return None if decision.plan is None else plan_document(decision.plan)


def plan(policy: str, job: bytes = b"", machine: bytes = MACHINE) -> Plan:
    decision = decided(policy, job, machine)
    assert decision.refusal is None
    assert decision.plan is not None
    return decision.plan


def refused(policy: str, job: bytes = b"", machine: bytes = MACHINE) -> str:
    decision = decided(policy, job, machine)
    assert decision.plan is None
    assert decision.refusal is not None
    assert decision.refusal.isprintable() and len(decision.refusal) <= LONGEST_REFUSAL
    return decision.refusal


def default(key: str, value: str, job: bytes = b"", machine: bytes = MACHINE) -> object:
    return KEYS[key].of(plan(f"defaults:\n  {key}: {value}\n", job, machine))


def test_without_a_policy_the_plan_is_the_built_in_one() -> None:
    decision = decide(built_in_policy(), JOB, MACHINE)
    assert document_of(decision) == plan_document(Plan())
    assert set(decision.origins.values()) == {"built-in"}
    assert decision.notes == ()


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("pids_max", "100 * MY.Cpus", 400),
        ("pids_max", "100 * Cpus", 400),
        ("pids_max", "100 * RequestCpus", 200),  # not in the slot's ad, so the job's
        ("pids_max", "100 * TARGET.RequestCpus", 200),
        ("pids_max", "'\"250\"'", 250),
        ("pids_max", 'ifThenElse(TARGET.X =?= undefined, 5, 6)', 5),
        ("pids_max", 'ifThenElse(MY.Cpus > 2, "none", 6)', None),
        ("memory_high", "50%", 1024 << 20),
        ("memory_high", "12.5%", 256 << 20),
        ("memory_high", "MY.Memory * 1048576 * 0.9", 1932735283),
        ("memory_high", "strcat(TARGET.RequestMemory, \"M\")", 1024 << 20),
        ("memory_high", "'\"25%\"'", 512 << 20),
        ("memory_swap_max", "0%", 0),
        ("cpu_max", "150%", 1.5),
        ("cpu_max", "MY.Cpus + 0.5", 4.5),
        ("cpu_max", "strcat(100 * TARGET.RequestCpus, \"%\")", 2.0),
        ("io_read_max", "strcat(MY.Cpus, \"MB/s\")", 4 << 20),
        ("io_weight", "min({100 * MY.Cpus, 10000})", 400),
        ("exclusive_cpus", "TARGET.RequestCpus", 2),
        ("cgroup", 'ifThenElse(TARGET.RequestCpus > 1, "leaf", "none")', "leaf"),
        ("on_failure", "toLower(\"RUN\")", "run"),
        ("namespaces", "'{\"pid\", \"mount\", \"uts\"}'", ("pid", "mount", "uts")),
        ("namespaces", "strcat(\"pid\", \", mount\")", ("pid", "mount")),
    ],
)  # fmt: skip
def test_values(key: str, value: str, expected: object) -> None:
    assert default(key, value) == expected


def test_my_is_the_slot_and_target_the_job_as_in_start() -> None:
    job, machine = b"Both = 1\nX = MY.Both\nY = TARGET.Both\n", MACHINE + b"Both = 2\nX = 3\n"
    for expression, value in {
        "Both": 2,
        "MY.Both": 2,
        "TARGET.Both": 1,
        "X": 3,
        "TARGET.X": 1,  # there, MY is the job itself
        "TARGET.Y": 2,
    }.items():
        assert default("pids_max", expression, job, machine) == value


def test_an_undefined_attribute_of_the_slot_does_not_become_the_jobs() -> None:
    machine = MACHINE + b"RequestCpus = undefined\n"
    assert "RequestCpus is undefined" in refused("defaults: {pids_max: RequestCpus}", b"", machine)


ERRORS = [
    # key, expression, what the refusal says
    ("pids_max", "TARGET.Missing", "TARGET.Missing is undefined; expected a whole number"),
    ("pids_max", "2 * Missing", "2 * Missing is undefined, for Missing is; expected"),
    ("pids_max", "MY.Missing + TARGET.Lost", "for MY.Missing, TARGET.Lost is"),
    ("pids_max", "100 / (MY.Cpus - 4)", "100 / (MY.Cpus - 4) is an error, where MY.Cpus is 4"),
    ("pids_max", "100 % (MY.Cpus - 4)", "is an error"),
    ("pids_max", "TARGET.Note", 'TARGET.Note is "text"; expected a whole number'),
    ("pids_max", "TARGET.Note + 1", 'TARGET.Note + 1 is an error, where TARGET.Note is "text"'),
    ("pids_max", "TARGET.RequestCpus - 5", "is -3, where TARGET.RequestCpus is 2; expected"),
    ("pids_max", "TARGET.RequestCpus - 2", "is 0, where TARGET.RequestCpus is 2; expected"),
    ("pids_max", "TARGET.RequestCpus * 1.3", "is 2.6, where TARGET.RequestCpus is 2; expected"),
    ("pids_max", "TARGET.RequestCpus > 1", "is true, where TARGET.RequestCpus is 2; expected"),
    ("pids_max", "TARGET.RequestCpus * 1e9", "is 2000000000.0, where"),
    ("pids_max", 'TARGET.RequestCpus + real("inf")', "is an error, where"),
    ("pids_max", 'ifThenElse(MY.Cpus == 4, real("inf"), 1)', "is inf, where"),
    ("pids_max", "TARGET.RequestCpus * 1e400", "is an error, where"),
    ("pids_max", 'TARGET.RequestCpus * real("NaN")', "is nan, where"),
    ("pids_max", "9223372036854775807 + TARGET.RequestCpus", "is -9223372036854775807, where"),
    ("pids_max", "misspelled(MY.Cpus)", "misspelled(MY.Cpus) is an error, where MY.Cpus is 4"),
    ("pids_max", "'{MY.Cpus, {TARGET.Note}}'", '{MY.Cpus, {TARGET.Note}} is {4, {"text"}}, where'),
    ("pids_max", "ifThenElse(MY.Cpus == 4, TARGET, 5)", "is an ad, where MY.Cpus is 4 and TARGET"),
    ("pids_max", 'ifThenElse(MY.Cpus == 4, absTime("2025-01-01"), 1)', "is a time, where MY.Cpus"),
    ("pids_max", 'ifThenElse(MY.Cpus == 4, absTime("9999999-01-01"), 1)', "cannot be read"),
    ("pids_max", "substr(strcat(TARGET.Note, \"é\"), 0, 5)", "has a value that cannot be read"),
    ("memory_high", "0.9 * MY.Memory", "is 1843.2, where MY.Memory is 2048; expected a number"),
    ("memory_high", "strcat(MY.Memory, \"X\")", 'is "2048X", where MY.Memory is 2048; expected'),
    ("cgroup", "TARGET.Owner", 'TARGET.Owner is "alice"; expected leaf or none'),
    ("namespaces", "strcat(\"pid,\", TARGET.Owner)", 'is "pid,alice", where TARGET.Owner is "ali'),
    ("namespaces", "'{TARGET.Owner}'", "expected any of pid, mount"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "expression", "words"), ERRORS)
def test_every_error_is_a_refusal_that_names_rule_and_key(
    key: str, expression: str, words: str
) -> None:
    text = refused(f"rules:\n- name: a rule\n  match: true\n  {key}: {expression}\n")
    assert text.startswith(f"policy.yaml:5: rule a rule: {key}: ")
    assert words in text
    assert text.endswith("; if the job asks for nothing odd, this node's administrators can "
                         "correct the policy")  # fmt: skip


@pytest.mark.parametrize("memory", [b"", b"0", b"-1", b"true", b'"1024"', b"1.5", b"error", b"X"])
def test_a_percentage_needs_the_memory_of_the_slot(memory: bytes) -> None:
    machine = b"Memory = " + memory if memory else b"Cpus = 1"
    text = refused("defaults: {memory_high: 50%}", b"", machine)
    assert text.startswith("policy.yaml:2: defaults: memory_high: MY.Memory is ")


def test_a_percentage_may_be_too_little() -> None:
    text = refused("defaults: {memory_high: 0.01%}")
    assert "0.01% of 2048M is out of bounds; expected a number such as 512M" in text


RULES = """\
defaults:
  pids_max: 10
  io_weight: 50
rules:
- name: first
  match: TARGET.RequestCpus > 1
  pids_max: 20
  cpu_max: TARGET.Missing
- name: second
  match: TARGET.Owner == "alice"
  cpu_max: 2
- name: third
  match: TARGET.Owner == "bob"
  pids_max: 40
- name: fourth
  match: TARGET.Missing > 3
  pids_max: 50
"""


def test_later_rules_win_and_only_the_winner_is_evaluated() -> None:
    decision = decided(RULES)
    assert decision.plan is not None
    limits = decision.plan.limits
    assert (limits.pids_max, limits.cpu_max_cores, limits.io_weight) == (20, 2.0, 50)
    origins = {key: value for key, value in decision.origins.items() if value != "built-in"}
    assert origins == {
        "io_weight": "defaults (policy.yaml:4)",
        "pids_max": "first (policy.yaml:8)",
        "cpu_max": "second (policy.yaml:12)",
    }
    assert set(decision.origins) == {*KEYS, "mounts"}


def test_a_rule_that_is_undefined_does_not_match_and_explain_says_so() -> None:
    (note,) = decided(RULES).notes
    assert note == "rule fourth does not match: TARGET.Missing is undefined"


@pytest.mark.parametrize(
    ("match", "matches"),
    [
        ("true", True),
        ("false", False),
        ("1", True),
        ("0", False),
        ("TARGET.RequestCpus", True),
        ("0.5", True),
        ("undefined", False),
        ("TARGET.Missing", False),
        ("TARGET.Missing && false", False),
        ("TARGET.Missing || true", True),
        ("MY.Cpus >= TARGET.RequestCpus", True),
        ("isUndefined(TARGET.Missing)", True),
        ("TARGET.owner == \"ALICE\"", True),  # names and == do not mind case
    ],
)  # fmt: skip
def test_match(match: str, matches: bool) -> None:
    made = plan(f"rules:\n- name: r\n  match: {match}\n  pids_max: 7\n")
    assert made.limits.pids_max == (7 if matches else None)


@pytest.mark.parametrize(
    ("match", "words"),
    [
        ("1 / 0", "1 / 0 is an error"),
        ("TARGET.Note", 'TARGET.Note is "text"; expected true or false'),
        ("TARGET.Note > 3", 'TARGET.Note > 3 is an error, where TARGET.Note is "text"'),
        ("MY", "MY is an ad; expected true or false"),
        ("error", "error is an error"),
    ],
)
def test_an_error_in_a_match_is_a_refusal(match: str, words: str) -> None:
    text = refused(f"rules:\n- name: r\n  match: {match}\n  pids_max: 7\n")
    assert text.startswith("policy.yaml:3: rule r: match: ")
    assert words in text


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("'\"no room\"'", "no room"),
        ('strcat("not for ", TARGET.Owner)', "not for alice"),
        ('strcat("two\\n", "lines \\t and \\a")', "two lines and ?"),
        ("TARGET.Owner == \"alice\"", "this node does not run such jobs (rule r of its policy)"),
    ],
)  # fmt: skip
def test_refuse_with_a_reason(expression: str, reason: str) -> None:
    if "\\a" in expression:
        expression = expression.replace("\\a", "")
        reason = reason.replace(" ?", "")
    assert refused(f"rules:\n- name: r\n  match: true\n  refuse: {expression}\n") == reason


@pytest.mark.parametrize("expression", ["false", "undefined", "TARGET.Missing", "TARGET.Owner==1"])
def test_refuse_without_a_reason(expression: str) -> None:
    if expression.endswith("1"):
        assert "is an error" in refused(f"defaults:\n  refuse: {expression}\n")
    else:
        plan(f"defaults:\n  refuse: {expression}\n")


@pytest.mark.parametrize("expression", ["1", "0", "'\"\"'", "MY.Cpus", "'{true}'", "1 / 0"])
def test_refuse_with_something_else(expression: str) -> None:
    text = refused(f"defaults:\n  refuse: {expression}\n")
    assert text.startswith("policy.yaml:3: defaults: refuse: ")


def test_a_later_rule_takes_a_refusal_back() -> None:
    policy = "defaults:\n  refuse: true\nrules:\n- {name: r, match: TARGET.Owner == \"alice\", "
    plan(policy + "refuse: false}\n")


def test_mounts_with_expressions() -> None:
    policy = (
        "defaults:\n  mounts:\n  - kind: bind\n    target: /home\n"
        '    source: strcat("/home/", TARGET.Owner)\n    read_only: true\n'
    )
    (mount,) = plan(policy).mounts
    assert (mount.kind, mount.target, mount.source, mount.read_only) == (
        "bind", "/home", "/home/alice", True,
    )  # fmt: skip
    for owner in (b'"../root"', b'"a/../../etc"', b"undefined", b"error"):
        text = refused(policy, b"Owner = " + owner + b"\n")
        assert text.startswith("policy.yaml:3: defaults: mounts: ")


def test_an_expression_leads_to_no_directory_of_the_system() -> None:
    policy = 'defaults:\n  mounts: [{kind: private, target: \'strcat("/", TARGET.Where)\'}]\n'
    (mount,) = plan(policy, b'Where = "scratch"\n').mounts
    assert mount.target == "/scratch"
    text = refused(policy, b'Where = "/etc//x"\n')
    assert "is //etc//x; a directory of the system must be written out" in text


def test_values_that_do_not_go_together() -> None:
    text = refused("rules:\n- {name: r, match: true, namespaces: none}\n")
    assert "the policy of this node makes no plan" in text
    assert "mounts" in text


REQUESTS = """\
defaults:
  pids_max: 1000
  requests:
    pids_max: {at_least: 10, at_most: 1000 * TARGET.RequestCpus}
    memory_high: {at_most: 50%}
    cpu_max: {at_most: none}
    io_weight: {attribute: Weight, at_most: 200}
    namespaces: {at_least: [pid, mount], at_most: [pid, mount, ipc, uts]}
    on_failure: {one_of: [refuse, run]}
    cgroup: {one_of: [leaf]}
    mounts:
      offered:
        data: {kind: bind, source: /data, target: /data, read_only: true}
        shm: {kind: tmpfs, target: /scratch}
rules:
- name: guests
  match: TARGET.Guest
  requests: {pids_max: none, io_weight: {attribute: Weight, at_most: 20}}
"""


@pytest.mark.parametrize(
    ("job", "key", "value"),
    [
        (b"LedgePidsMax = 2000", "pids_max", 2000),
        (b"ledgepidsmax = 10", "pids_max", 10),
        (b"LedgePidsMax = RequestCpus * 10", "pids_max", 20),
        (b'LedgePidsMax = "500"', "pids_max", 500),
        (b"LedgePidsMax = undefined", "pids_max", 1000),
        (b"LedgePidsMax = Undefined", "pids_max", 1000),
        (b'LedgeMemoryHigh = "1G"', "memory_high", 1 << 30),
        (b'LedgeMemoryHigh = "50%"', "memory_high", 1 << 30),
        (b"LedgeCpuMax = 3.5", "cpu_max", 3.5),
        (b'LedgeCpuMax = "none"', "cpu_max", None),
        (b"Weight = 200", "io_weight", 200),
        (b'LedgeNamespaces = "pid,mount,uts"', "namespaces", ("pid", "mount", "uts")),
        (b'LedgeNamespaces = {"pid", "mount"}', "namespaces", ("pid", "mount")),
        (b'LedgeOnFailure = "run"', "on_failure", "run"),
    ],
)
def test_what_a_job_may_ask_for(job: bytes, key: str, value: object) -> None:
    decision = decided(REQUESTS, job + b"\n")
    assert decision.plan is not None, decision.refusal
    assert KEYS[key].of(decision.plan) == value
    if b"ndefined" not in job:
        attribute = "Weight" if key == "io_weight" else job.partition(b" ")[0].decode()
        assert decision.origins[key].lower().startswith(attribute.lower() + " of the job, which de")


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (b"LedgePidsMax = 2001", "LedgePidsMax of the job is 2001; this node allows at most 2000"),
        (b"LedgePidsMax = 9", "LedgePidsMax of the job is 9; this node allows at least 10"),
        (b'LedgePidsMax = "none"', "of the job is none; this node allows at most 2000"),
        (b"LedgePidsMax = 0", "LedgePidsMax of the job is 0; expected a whole number"),
        (b"LedgePidsMax = -5", "is -5; expected a whole number"),
        (b"LedgePidsMax = true", "is true; expected a whole number"),
        (b'LedgePidsMax = "many"', 'is "many"; expected a whole number'),
        (b"LedgePidsMax = 1.5", "is 1.5; expected a whole number"),
        (b"LedgePidsMax = 1 / 0", "LedgePidsMax of the job, 1 / 0, is an error; correct it or"),
        (b"LedgePidsMax = Missing", "LedgePidsMax of the job is undefined; correct it or leave it"),
        (b"LedgePidsMax = 1e400", "is inf; expected"),
        (b"LedgePidsMax = LedgePidsMax", "is undefined"),
        (b"LedgePidsMax = [a = 1]", "is an ad; expected"),
        (b'LedgeMemoryHigh = "51%"', "LedgeMemoryHigh of the job is"),
        (b"LedgeMemoryHigh = 512", "is 512; expected a number such as 512M"),
        (b"Weight = 201", "Weight of the job is 201; this node allows at most 200"),
        (b'LedgeNamespaces = "pid"', "allows at least pid, mount"),
        (b'LedgeNamespaces = "pid,mount,cgroup"', "allows at most pid, mount, ipc, uts"),
        (b'LedgeNamespaces = "net"', 'is "net"; expected any of'),
        (b'LedgeOnFailure = "ignore"', 'is "ignore"; expected refuse or run'),
        (b'LedgeCgroup = "none"', "LedgeCgroup of the job is none; this node allows one of leaf"),
        (b'LedgeMounts = "data, home"', 'asks for home; this node offers data, shm'),
        (b'LedgeMounts = "/etc"', "this node offers data, shm"),
        (b"LedgeMounts = 5", "is 5; expected any of data, shm"),
    ],
)
def test_what_a_job_may_not_ask_for(job: bytes, words: str) -> None:
    text = refused(REQUESTS, job + b"\n")
    assert words in text
    assert text.startswith(job.partition(b" ")[0].decode())


def test_a_job_names_mounts_that_are_offered() -> None:
    made = plan(REQUESTS, b'LedgeMounts = "shm, data"\n')
    assert [mount.target for mount in made.mounts][-2:] == ["/scratch", "/data"]
    assert len(made.mounts) == len(Plan().mounts) + 2


def test_a_rule_refines_what_a_job_may_ask_for() -> None:
    guest = b"Guest = true\n"
    decision = decided(REQUESTS, guest + b"LedgePidsMax = 500\n")
    assert decision.plan is not None and decision.plan.limits.pids_max == 1000
    assert any("LedgePidsMax of the job is ignored" in note for note in decision.notes)
    assert "at most 20" in refused(REQUESTS, guest + b"Weight = 100\n")


def test_a_bound_that_fails_is_an_error_of_the_policy() -> None:
    policy = "defaults: {requests: {pids_max: {at_most: MY.Missing}}}"
    plan(policy)
    text = refused(policy, b"LedgePidsMax = 5\n")
    assert text.startswith("policy.yaml:2: defaults: pids_max: MY.Missing is undefined")


def test_what_the_policy_gives_no_meaning_to_is_ignored_with_a_note() -> None:
    job = (
        b"LedgePidsMax = 5\nLedgeCpuUserSeconds = 3.5\nLedgeEnforced = \"x\"\nLedgeX = 1\n"
        b"LedgeIoWieght = 5\nLedge = 1\n"
    )
    policy = "defaults: {requests: {io_weight: {at_most: 100}}}"
    assert sorted(decided(policy, job).notes) == [
        "LedgeIoWieght of the job is ignored: the policy lets no job set it; did the job mean "
        "LedgeIoWeight?",
        "LedgePidsMax of the job is ignored: the policy lets no job set it",
    ]


ADS = [
    # what is wrong with a job ad, and what the refusal says
    (b"", "the job ad is empty"),
    (b"\n\n# comment\n", "the job ad is empty"),
    (b"A = 1\nthis is none\nB = 2\n", "a line that is no attribute: 'this is none'"),
    (b"A = 1\nB = = 2\n", "a line that is no attribute: 'B = = 2'"),
    (b"A = 1\n = 2\n", "a line that is no attribute: ' = 2'"),
    (b"A = 1\nB =\n", "a line that is no attribute: 'B ='"),
    (b"A = (1\n)\n", "a line that is no attribute: 'A = (1'"),
    (b'A = "one\nOwner = "root"\n"\n', "a line that is no attribute: 'A = \"one'"),
    (b'A = "one\nRequestCpus = 1000\nB = "\n', "a line that is no attribute"),
    (b"A = 1\0\nB = 2\n", "the job ad has a NUL byte"),
    (b"A = 1\nB = 2\0", "the job ad has a NUL byte"),
    (b"\0", "the job ad has a NUL byte"),
    (b"[A = 1; B = 2", "a line that is no attribute"),
    (b'{"A": 1}', "a line that is no attribute"),
    (b"<?xml version='1.0'?>", "a line that is no attribute"),
    (b"A = " + b"(" * 1000 + b"1" + b")" * 1000, "a line that is no attribute: 'A = ((((("),
    (b"A = " + b"-" * 5000 + b"1", "a line that is no attribute"),
    (b"A = 1\n" * 300000, "the job ad has more than 1048576 bytes"),
    (b"\xff\xfe", "a line that is no attribute"),
]  # fmt: skip


@pytest.mark.parametrize(("ad", "words"), ADS, ids=lambda value: repr(value)[:50])
def test_a_job_ad_that_is_none(ad: bytes, words: str) -> None:
    decision = decide(built_in_policy(), ad, MACHINE)
    assert decision.plan is None and decision.refusal is not None
    assert words in decision.refusal
    assert decision.refusal.isprintable()


def test_a_machine_ad_that_is_none() -> None:
    decision = decide(built_in_policy(), JOB, b"Memory = 5\nnothing\n")
    assert decision.refusal is not None
    assert "the machine ad has a line that is no attribute: 'nothing'" in decision.refusal


@pytest.mark.parametrize(
    "ad",
    [
        pytest.param(b"RequestCpus = 3\r\nA = 1\r\n", id="carriage returns"),
        pytest.param(b"\n\nA = 1\n\n \nRequestCpus = 3\n", id="empty lines"),
        pytest.param(b"# x\nRequestCpus = 3\n # y\n", id="comments"),
        pytest.param(b"RequestCpus = 3", id="no newline at the end"),
        pytest.param(b"RequestCpus=3", id="no blanks"),
        pytest.param(b"RequestCpus = 2\nrequestcpus = 3\n", id="twice: HTCondor takes the last"),
        pytest.param(b'RequestCpus = 3\nArgs = "caf\xe9"\n', id="Latin-1"),
        pytest.param('RequestCpus = 3\nArgs = "\u2028é"\n'.encode(), id="UTF-8"),
        pytest.param(b'RequestCpus = 3\nArgs = "a\\"b = c"\n', id="an equals sign in a string"),
        pytest.param(b'RequestCpus = 3\nArgs = "C:\\dir\\"\n', id="a backslash at the end"),
    ],
)
def test_a_job_ad_that_is_one(ad: bytes) -> None:
    policy = read_policy(b"version: 1\ndefaults: {pids_max: TARGET.RequestCpus}", "policy.yaml")
    decision = decide(policy, ad, MACHINE)
    assert decision.plan is not None, decision.refusal
    assert decision.plan.limits.pids_max == 3


POLICY = read_policy(b"version: 1\n" + REQUESTS.encode(), "policy.yaml")


@given(st.binary(max_size=200), st.binary(max_size=100))
@example(b"A = \x1b[31m", b"")
@example(b"LedgePidsMax = \x80", b"")
def test_any_bytes_are_a_plan_or_a_refusal(job: bytes, machine: bytes) -> None:
    for ad in (job, JOB + job, JOB + b"LedgePidsMax = " + job, JOB + b'LedgeMounts = "' + job):
        decision = decide(POLICY, ad, machine)
        assert (decision.plan is None) != (decision.refusal is None)
        assert decision.refusal is None or decision.refusal.isprintable()
        assert all(note.isprintable() for note in decision.notes)


@given(st.text())
def test_a_refusal_is_one_line(text: str) -> None:
    line = refusal(text).refusal
    assert line is not None and line.isprintable() and len(line) <= LONGEST_REFUSAL
