"""Reading a policy: what is one, and what is refused, with file, line and what was expected."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ledge.policy.decision import decide
from ledge.policy.document import read_policy
from ledge.policy.errors import PolicyError
from ledge.policy.expressions import Expression
from ledge.policy.keys import KEYS
from ledge.policy.model import MountSetting, Policy, Setting, built_in_policy
from ledge.policy.tree import MAXIMUM_BYTES

SHIPPED = Path(__file__).resolve().parents[2] / "packaging/policy.yaml"


def read(text: str) -> Policy:
    return read_policy(text.encode(), "policy.yaml")


def defaults(text: str) -> Policy:
    return read("version: 1\ndefaults:\n  " + text.replace("\n", "\n  ") + "\n")


def errors(text: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        read(text)
    assert caught.value.errors[0] == str(caught.value)
    for line in caught.value.errors:
        assert line.isprintable()
        assert line.startswith("policy.yaml")
    return list(caught.value.errors)


def error(text: str) -> str:
    (line,) = errors(text)
    return line


def test_a_policy_of_nothing_but_a_version_is_the_built_in_one() -> None:
    assert read("version: 1") == built_in_policy()
    assert read("version: 1\ndefaults:\nrules:\n") == built_in_policy()._replace(
        defaults=built_in_policy().defaults._replace(place="policy.yaml:2")
    )


def test_the_shipped_policy_is_one() -> None:
    policy = read_policy(SHIPPED.read_bytes(), "policy.yaml")
    assert policy.without_daemon == built_in_policy().without_daemon
    decision = decide(policy, b"RequestCpus = 1\n", b"Memory = 1024\nCpus = 1\n")
    assert decision.plan is not None and not decision.plan.limits.wanted()


def test_the_examples_in_the_shipped_policy_are_right() -> None:
    """A sentence has one blank after its "#"; what has none or more becomes part of the policy."""
    text = SHIPPED.read_text()
    policy = read(re.sub(r"^#(?! \S)", "", text, flags=re.MULTILINE))
    assert len(policy.rules) > 2
    assert len(policy.defaults.settings) > 10 and len(policy.defaults.requests) > 3


def test_the_examples_of_the_documentation_are_right() -> None:
    text = (SHIPPED.parents[1] / "docs/policy.md").read_text()
    examples = [part.partition("```")[0] for part in text.split("```yaml\n")[1:]]
    assert len(examples) > 3
    for document in examples:
        read(document if "version:" in document else "version: 1\n" + document)


@pytest.mark.parametrize("word", ["hold", "requeue", "run"])
def test_without_daemon(word: str) -> None:
    assert read(f"version: 1\nwithout_daemon: {word}").without_daemon == word


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("cgroup: leaf", "leaf"),
        ("cgroup: 'leaf'", "leaf"),
        ('on_failure: "run"', "run"),
        ("namespaces: [pid, mount]", ("pid", "mount")),
        ("namespaces: pid, mount", ("pid", "mount")),
        ("namespaces: [pid, mount, pid]", ("pid", "mount")),
        ("namespaces: []\nmounts: none", ()),
        ("namespaces: none\nmounts: none", ()),
        ("hide: execute", ("execute",)),
        ("hide: [execute, /data/secret]", ("execute", "/data/secret")),
        ("hide: /data/a, /data/b", ("/data/a", "/data/b")),
        ("hide: none", ()),
        ("loopback: shared", "shared"),
        ("keyring: own", "own"),
        ("no_new_privs: true", "true"),
        ("pids_max: 1000", 1000),
        ("pids_max: '1000'", 1000),
        ("pids_max: none", None),
        ("pids_max: 010", 10),  # not YAML's octal 8
        ("memory_high: 512M", 512 << 20),
        ("io_read_max: 10MB/s", 10 << 20),
        ("cpu_max: 150%", 1.5),
    ],
)
def test_literals(text: str, value: object) -> None:
    setting = defaults(text).defaults.settings[text.partition(":")[0]]
    assert setting == Setting("policy.yaml:3", value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "pids_max: 100 * MY.Cpus",
        "pids_max: RequestCpus",
        "pids_max: ifThenElse(TARGET.X =?= undefined, 5, TARGET.X)",
        "pids_max: |\n  // a comment\n  5 *\n  MY.Cpus",
        "cgroup: ifThenElse(MY.X, \"leaf\", \"none\")",
        "cgroup: MY.leef",
        "namespaces: strcat(\"pid,\", \"mount\")",
        "refuse: ifThenElse(TARGET.X, \"no\", false)",
        "refuse: \"TARGET.X > 1 ? \\\"too many\\\" : false\"",
        "refuse: '\"always\"'",
        "refuse: true",
        "refuse: MY.Reason",
        "io_weight: 100 * TARGET.RequestCpus",
        "no_new_privs: TARGET.Owner != \"alice\"",
        "hide: ifThenElse(MY.X, \"execute\", \"none\")",
        "pids_max: 1e3",
    ],
)  # fmt: skip
def test_anything_else_is_an_expression(text: str) -> None:
    (setting,) = defaults(text).defaults.settings.values()
    assert isinstance(setting, Setting) and isinstance(setting.value, Expression)


def test_mounts() -> None:
    policy = defaults(
        "mounts:\n"
        "- {kind: private, target: /tmp}\n"
        "- {kind: bind, source: /data, target: /mnt, read_only: true}\n"
        '- kind: bind\n  source: strcat("/home/", TARGET.Owner)\n  target: /home'
    )
    setting = policy.defaults.settings["mounts"]
    assert setting.place == "policy.yaml:3"
    assert not isinstance(setting, Setting)
    private, data, home = setting.mounts
    assert private == MountSetting("private", "/tmp", None, False)
    assert data == MountSetting("bind", "/mnt", "/data", True)
    assert isinstance(home.source, Expression) and not home.read_only
    assert not isinstance(defaults("mounts: none").defaults.settings["mounts"], Setting)


def test_rules_and_requests() -> None:
    policy = read(
        """\
version: 1
defaults:
  requests:
    pids_max: {at_most: 2000, attribute: WantProcesses}
    cgroup: {one_of: [leaf, none]}
    mounts: {offered: {cvmfs: {kind: bind, source: /cvmfs, target: /cvmfs}}}
    io_weight:
rules:
- name: big jobs
  match: TARGET.RequestCpus > 8
  pids_max: none
  requests: {pids_max: none}
"""
    )
    requests = policy.defaults.requests
    pids, cgroup, mounts, weight = requests.values()
    assert pids and pids.attribute == "WantProcesses"
    assert pids.bounds == {"at_most": Setting("policy.yaml:4", 2000)}
    assert cgroup and cgroup.bounds == {"one_of": Setting("policy.yaml:5", ("leaf", "none"))}
    assert mounts and mounts.attribute == "LedgeMounts" and set(mounts.offered) == {"cvmfs"}
    assert weight and weight.attribute == "LedgeIoWeight" and weight.bounds == {}
    (rule,) = policy.rules
    assert (rule.name, rule.place) == ("big jobs", "policy.yaml:9")
    assert rule.settings == {"pids_max": Setting("policy.yaml:11", None)}
    assert rule.requests == {"pids_max": None}


WRONG = [
    # document, line, what the error says
    ("", 1, "expected a line version: 1"),
    ("# only a comment", 1, "expected a line version: 1"),
    ("null", 1, "expected a line version: 1"),
    ("[]", 1, "expected a line version: 1"),
    ("version: 2", 1, "version: expected 1, found '2'"),
    ("version: 1.0", 1, "version: expected 1"),
    ("version: [1]", 1, "version: expected 1, found a list"),
    ("version:", 1, "found nothing"),
    ("defaults: {}", 1, "expected a line version: 1"),
    ("version: 1\nversion: 1", 2, "the key 'version' stands twice"),
    ("version: 1\nrule: []", 2, "unknown key 'rule'; did you mean rules?"),
    ("version: 1\n17: x", 2, "unknown key '17'; Known are version"),
    ("version: 1\n? [a]\n: b", 2, "expected a word as the key"),
    ("version: 1\nwithout_daemon: stop", 2, "expected hold or requeue or run, found 'stop'"),
    ("version: 1\nwithout_daemon:", 2, "found nothing"),
    ("version: 1\nwithout_daemon: TARGET.X", 2, "expected hold or requeue or run"),
    ("version: 1\ndefaults: []", 2, "defaults: expected keys and values, found a list"),
    ("version: 1\ndefaults: 5", 2, "expected keys and values, found '5'"),
    ("version: 1\ndefaults:\n  pid_max: 5", 3, "unknown key 'pid_max'; did you mean pids_max?"),
    ("version: 1\ndefaults:\n  name: x", 3, "unknown key 'name'"),
    ("version: 1\ndefaults:\n  pids_max: 5\n  pids_max: 6", 4, "stands twice; it has a value on"),
    ("version: 1\ndefaults:\n  pids_max: 0", 3, "expected a whole number such as 1000, from 1 to"),
    ("version: 1\ndefaults:\n  pids_max:", 3, "or none, found nothing"),
    ("version: 1\ndefaults:\n  pids_max: ~", 3, "found nothing"),
    ("version: 1\ndefaults:\n  pids_max: [5]", 3, "found a list"),
    ("version: 1\ndefaults:\n  pids_max: {a: 5}", 3, "found keys and values"),
    ("version: 1\ndefaults:\n  pids_max: nonne", 3, "did you mean none?"),
    ("version: 1\ndefaults:\n  loopback: none", 3, "expected own or own_if_possible or shared"),
    ("version: 1\ndefaults:\n  no_new_privs: yes", 3, "An attribute would be MY.yes"),
    ("version: 1\ndefaults:\n  mounts: [{kind: tmpfs, target: tmp}]", 3, "an absolute path"),
    ("version: 1\ndefaults:\n  mounts: [{kind: tmpfs, target: a/b}]", 3, "an absolute path"),
    ("version: 1\ndefaults:\n  memory_high: 512", 3, "such as 512M or 90%, at least 1M"),
    ("version: 1\ndefaults:\n  io_read_max: 10MB/h", 3, "such as 10MB/s, at least 4K/s"),
    ("version: 1\ndefaults:\n  cgroup: leef", 3, "expected leaf or none, found 'leef'; did you"),
    ("version: 1\ndefaults:\n  cgroup: true", 3, "expected leaf or none, found 'true'"),
    ("version: 1\ndefaults:\n  pids_max: true", 3, "or none, found 'true'"),
    ("version: 1\ndefaults:\n  pids_max: 2 * -1", 3, "or none, found '2 * -1'"),
    ("version: 1\ndefaults:\n  pids_max: 1 / 0", 3, "found '1 / 0'; it is an error"),
    ("version: 1\ndefaults:\n  pids_max: undefined", 3, "it is undefined"),
    ("version: 1\ndefaults:\n  cpu_max: 1e400", 3, "found '1e400'"),
    ("version: 1\ndefaults:\n  cpu_max: '\"many\"'", 3, "or none, found"),
    ("version: 1\ndefaults:\n  namespaces: [pid, net]", 3, "any of pid, mount, ipc, cgroup, uts"),
    ("version: 1\ndefaults:\n  hide: [data]", 3, "any of execute and absolute paths, or none"),
    ("version: 1\ndefaults:\n  hide: [/]", 3, "absolute paths"),
    ("version: 1\ndefaults:\n  hide: /a/../b", 3, "absolute paths"),
    ("version: 1\ndefaults:\n  hide: [execute, /a//b]", 3, "absolute paths"),
    ("version: 1\ndefaults:\n  loopback: owned", 3, "expected own or own_if_possible or shared"),
    ("version: 1\ndefaults:\n  no_new_privs: 1", 3, "expected true or false"),
    ("version: 1\ndefaults:\n  namespaces: [[pid]]", 3, "expected any of"),
    ("version: 1\ndefaults:\n  namespaces: pid mount", 3, "it is no ClassAd expression"),
    ("version: 1\ndefaults:\n  pids_max: 1 +", 3, "it is no ClassAd expression"),
    ("version: 1\ndefaults:\n  pids_max: 1]", 3, "it is no ClassAd expression"),
    ("version: 1\ndefaults:\n  pids_max: 1; b = 2", 3, "it is no ClassAd expression"),
    ("version: 1\ndefaults:\n  pids_max: 1) ] [x=(2", 3, "it is no ClassAd expression"),
    ("version: 1\ndefaults:\n  pids_max: 1); x = (2", 3, "it is no ClassAd expression"),
    ("version: 1\ndefaults:\n  pids_max: 1 /*", 3, "it is no ClassAd expression"),
    ("version: 1\ndefaults:\n  pids_max: 1_000", 3, "it is no ClassAd expression"),
    ("version: 1\ndefaults:\n  pids_max: 1:30", 3, "it is no ClassAd expression"),
    ('version: 1\ndefaults:\n  pids_max: "1\\0"', 3, "it is no ClassAd expression"),
    ('version: 1\ndefaults:\n  pids_max: "\\"\\uD800\\""', 3, ""),
    ("version: 1\ndefaults:\n  pids_max: " + "(" * 3000, 3, "it is no ClassAd expression"),
    ("version: 1\ndefaults:\n  pids_max: " + "1+" * 3000 + "1", 3, "longer than 4096"),
    ("version: 1\ndefaults:\n  refuse: closed", 3, "a fixed reason is written"),
    ("version: 1\ndefaults:\n  refuse: no GPUs here", 3, "a fixed reason is written"),
    ("version: 1\ndefaults:\n  refuse:", 3, "expected an expression, found nothing"),
    ("version: 1\ndefaults:\n  mounts: /tmp", 3, "expected a list of mounts, or none"),
    ("version: 1\ndefaults:\n  mounts:\n  - /tmp", 4, "one of private, tmpfs, devpts, bind"),
    ("version: 1\ndefaults:\n  mounts:\n  - {kind: net, target: /a}", 4, "expected one of private"),
    ("version: 1\ndefaults:\n  mounts:\n  - {kind: bind, target: /a}", 4, "source: expected"),
    ("version: 1\ndefaults:\n  mounts:\n  - {kind: tmpfs, target: /a/../b}", 4, "'..'"),
    ("version: 1\ndefaults:\n  mounts:\n  - {kind: tmpfs, target: }", 4, "found nothing"),
    ("version: 1\ndefaults:\n  mounts:\n  - {kind: tmpfs, target: a b}", 4, "a path, or an"),
    ("version: 1\ndefaults:\n  mounts:\n  - {kind: tmpfs, target: /a, x: 1}", 4, "key 'x'"),
    (
        "version: 1\ndefaults:\n  mounts:\n  - {kind: bind, source: /a, target: /b, read_only: 1}",
        4,
        "read_only: expected true or false",
    ),
    (
        "version: 1\ndefaults:\n  mounts:\n  - {kind: bind, source: TARGET.A, target: /usr/local}",
        4,
        "what is seen at /usr/local must be written out",
    ),
    ("version: 1\ndefaults:\n  requests: all", 3, "expected keys and values"),
    ("version: 1\ndefaults:\n  requests: {pids: {}}", 3, "did you mean pids_max?"),
    ("version: 1\ndefaults:\n  requests: {refuse: {}}", 3, "unknown key 'refuse'"),
    ("version: 1\ndefaults:\n  requests: {pids_max: 5}", 3, "expected keys and values, found '5'"),
    ("version: 1\ndefaults:\n  requests: {pids_max: {max: 5}}", 3, "Known are attribute, at_least"),
    ("version: 1\ndefaults:\n  requests: {pids_max: {at_most: 0}}", 3, "expected a whole number"),
    ("version: 1\ndefaults:\n  requests: {pids_max: {attribute: a b}}", 3, "name of a job attr"),
    ("version: 1\ndefaults:\n  requests: {cgroup: {at_most: leaf}}", 3, "attribute, one_of"),
    ("version: 1\ndefaults:\n  requests: {cgroup: {one_of: [leef]}}", 3, "expected leaf or none"),
    ("version: 1\ndefaults:\n  requests: {mounts: {offered: [a]}}", 3, "names with a mount each"),
    ("version: 1\ndefaults:\n  requests: {mounts: {offered: {a: /b}}}", 3, "expected one of priv"),
    ("version: 1\ndefaults: {namespaces: none}", 2, 'they need "mount" among the namespaces'),
    ("version: 1\ndefaults: {cgroup: none}", 2, '"cgroup" needs a leaf'),
    ("version: 1\nrules: {}", 2, "rules: expected a list, found keys and values"),
    ("version: 1\nrules:\n- big", 3, "expected a rule with name, match and settings, found 'big'"),
    ("version: 1\nrules:\n- match: true", 3, "a rule needs the key name"),
    ("version: 1\nrules:\n- name: a", 3, "a rule needs the key match"),
    ("version: 1\nrules:\n- name: a\n  match:", 4, "match: expected an expression, found nothing"),
    ("version: 1\nrules:\n- name: a\n  match: [x]", 4, "found a list"),
    ("version: 1\nrules:\n- name: a\n  match: x >", 4, "match: expected a ClassAd expression"),
    ("version: 1\nrules:\n- name: [a]\n  match: x", 3, "name: expected one line, found a list"),
    ('version: 1\nrules:\n- name: "a\\nb"\n  match: x', 3, "name: expected one line"),
    ('version: 1\nrules:\n- name: ""\n  match: x', 3, "name: expected one line"),
    ("version: 1\nrules:\n- name: defaults\n  match: x", 3, "'defaults' is no name for a rule"),
    (
        "version: 1\nrules:\n- {name: a, match: x}\n- {name: a, match: x}",
        4,
        "the name 'a' stands twice; first at policy.yaml:3",
    ),
    ("version: 1\nrules:\n- name: a\n  match: x\n  pids: 5", 5, "unknown key 'pids'"),
    # YAML itself
    ("version: 1\ndefaults:\n\tpids_max: 5", 3, "not YAML"),
    ("version: 1\ndefaults: {", 2, "not YAML"),
    ("version: 1\ndefaults:\n  pids_max: a ? b : c", 3, "needs quotes around it"),
    ("version: 1\n--- \nversion: 1", 2, "not YAML"),
    ("version: 1\n--- !foo\nx: 1", 2, "not YAML"),
    ("version: 1\ndefaults: !!python/object:os.system {}", 2, "expected no tag"),
    ("version: !!int 1\nrules: !!set {a}", 2, "expected no tag"),
    ("version: 1\ndefaults: &a {pids_max: 1}\nrules: *a", 2, "expected no anchors and aliases"),
    ("version: 1\nrules: &a [*a]", 2, "expected no anchors and aliases"),
    ("version: 1\ndefaults: {<<: {pids_max: 5}}", 2, "unknown key '<<'"),
    ('version: 1\nrules: "\\UFFFFFFFF"', 0, "not YAML"),
    ("version: 1\nrules: \x07", 2, "not YAML"),
    ("version: 1\nrules: \x00", 2, "not YAML"),
    ("version: 1\nrules: " + "[" * 1000, 0, "nested too deeply"),
]


@pytest.mark.parametrize(
    ("document", "line", "words"), WRONG, ids=lambda value: repr(value)[:60]
)
def test_refused_naming_file_and_line(document: str, line: int, words: str) -> None:
    found = error(document)
    assert found.startswith(f"policy.yaml:{line}: " if line else "policy.yaml: ")
    assert words in found


def test_everything_that_is_wrong_is_said() -> None:
    rule = "- name: a\n  match: '('\n"
    lines = errors(f"version: 1\ndefaults:\n  pids_max: 0\n  x: 1\nrules:\n{rule}")
    places = [line.partition(" ")[0] for line in lines]
    assert places == ["policy.yaml:3:", "policy.yaml:4:", "policy.yaml:7:"]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"version: 1\n# caf\xe9\n", "policy.yaml:2: expected UTF-8"),
        (b"\xff\xfev\0", "policy.yaml:1: expected UTF-8"),
        (b"#" * (MAXIMUM_BYTES + 1), "at most"),
    ],
    ids=["Latin-1", "UTF-16", "too large"],
)
def test_bytes_that_are_no_text(document: bytes, words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        read_policy(document, "policy.yaml")


def test_a_byte_order_mark_is_no_error() -> None:
    assert read_policy(b"\xef\xbb\xbfversion: 1", "policy.yaml") == built_in_policy()


def test_the_largest_document_is_read() -> None:
    document = b"version: 1\n".ljust(MAXIMUM_BYTES, b"#")
    assert read_policy(document, "policy.yaml") == built_in_policy()


def test_an_alias_that_would_be_a_billion_nodes() -> None:
    levels = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30))
    assert "policy.yaml" in errors(f"version: 1\na0: &a0 x\n{levels}\n")[0]


def policy_or_error_of_one_line(document: bytes) -> None:
    try:
        read_policy(document, "policy.yaml")
    except PolicyError as caught:
        lines = caught.errors
    else:
        return
    assert lines
    for line in lines:
        assert line.isprintable()
        assert line.startswith("policy.yaml:")


@given(st.binary())
@example(b"\x1b[31m: 1")
def test_any_bytes(document: bytes) -> None:
    policy_or_error_of_one_line(document)


@given(st.text())
@example('"\\U00110000"')
@example("version: 1\n\x85")
@example("version: 1\n? ")
@example("%YAML 3.0\n---\nversion: 1")
@example("!<tag:yaml.org,2002:map> {version: 1}")
def test_any_text(text: str) -> None:
    policy_or_error_of_one_line(text.encode("utf-8", "surrogatepass"))
    policy_or_error_of_one_line(b"version: 1\n" + text.encode("utf-8", "surrogatepass"))


SCALARS = st.text(max_size=20) | st.sampled_from(
    ["none", "512M", "10MB/s", "50%", "leaf", "pid", "TARGET.X", "1 +", "1/0", "private", "/tmp"]
)
PIECES = st.sampled_from(
    ["version: 1\n", "rules:\n", "defaults:\n", "- ", "  ", "name: a\n", "match: ", "[", "]", "{",
     "}", ": ", ", ", "\n", "'", '"', "&a ", "*a ", "!!str ", "? ", "| ", "> ", "# ", "requests: ",
     "mounts: ", "offered: ", "at_most: ", "refuse: ", "\t", "kind: ", "target: ", "read_only: ",
     *(f"{key}: " for key in KEYS)]
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(PIECES | SCALARS, max_size=40))
def test_anything_like_a_policy(pieces: list[str]) -> None:
    policy_or_error_of_one_line(("version: 1\n" + "".join(pieces)).encode("utf-8", "ignore"))


TREES = st.recursive(
    SCALARS,
    lambda children: st.lists(children, max_size=4)
    | st.dictionaries(
        st.sampled_from([*KEYS, "mounts", "refuse", "requests", "name", "match", "at_most"])
        | SCALARS,
        children,
        max_size=6,
    ),
    max_leaves=20,
)


@settings(max_examples=200)
@given(TREES, TREES)
def test_any_tree(first: object, second: object) -> None:
    yaml = pytest.importorskip("yaml")
    text = yaml.safe_dump({"version": 1, "defaults": first, "rules": [second, first]})
    policy_or_error_of_one_line(text.encode("utf-8", "surrogatepass"))
