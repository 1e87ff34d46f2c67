"""Reading a plan: what is one, and what is refused with which words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledge.errors import PlanError
from ledge.plan.document import MAXIMUM_BYTES, load_plan, read_plan
from ledge.plan.plan import Plan

MOUNTABLE = {"version": 1, "namespaces": ["mount"]}


def read(**entries: object) -> Plan:
    return read_plan(json.dumps(entries).encode(), "plan.json")


def test_a_plan_of_nothing_but_a_version_is_the_built_in_one() -> None:
    plan, built_in = read(version=1), Plan()
    assert plan.namespaces == built_in.namespaces == ("pid", "mount", "ipc", "cgroup", "uts")
    assert [(m.kind, m.target) for m in plan.mounts] == [
        ("private", "/tmp"),
        ("private", "/var/tmp"),
        ("tmpfs", "/dev/shm"),
        ("devpts", "/dev/pts"),
    ]
    assert (plan.cgroup, plan.on_failure) == (built_in.cgroup, built_in.on_failure)
    assert (plan.cgroup, plan.on_failure) == ("leaf", "refuse")


def test_every_key_has_its_effect() -> None:
    plan = read(
        version=1,
        namespaces=["mount", "uts"],
        mounts=[
            {"kind": "private", "target": "/tmp"},
            {"kind": "tmpfs", "target": "/dev/shm"},
            {"kind": "bind", "source": "/data", "target": "/mnt", "read_only": True},
            {"kind": "bind", "source": "/data", "target": "/srv"},
        ],
        cgroup="none",
        on_failure="run",
        hide=["execute", "/data/secret"],
        abstract_sockets="shared",
        loopback="own",
        keyring="shared",
        no_new_privs=True,
    )
    assert plan.namespaces == ("mount", "uts")
    assert [(m.kind, m.target, m.source, m.read_only) for m in plan.mounts] == [
        ("private", "/tmp", None, False),
        ("tmpfs", "/dev/shm", None, False),
        ("bind", "/mnt", "/data", True),
        ("bind", "/srv", "/data", False),
    ]
    assert (plan.cgroup, plan.on_failure) == ("none", "run")
    assert (plan.hide, plan.no_new_privs) == (("execute", "/data/secret"), True)
    assert (plan.abstract_sockets, plan.loopback, plan.keyring) == ("shared", "own", "shared")


def test_no_isolation_at_all_is_a_plan() -> None:
    plan = read(version=1, namespaces=[], mounts=[], cgroup="none")
    assert (plan.namespaces, plan.mounts) == ((), ())


@pytest.mark.parametrize(
    ("entries", "where"),
    [
        pytest.param({}, "version", id="no version"),
        pytest.param({"version": 2}, "version", id="a later version"),
        pytest.param({"version": True}, "version", id="true is no version"),
        pytest.param({"version": "1"}, "version", id="a string is no version"),
        pytest.param({"version": None}, "version", id="null is no version"),
        pytest.param({"version": 1, "cgroups": "leaf"}, "unknown key 'cgroups'", id="unknown key"),
        pytest.param({"version": 1, "namespaces": "pid"}, "namespaces", id="string for an array"),
        pytest.param({"version": 1, "namespaces": ["net"]}, "namespaces", id="unknown namespace"),
        pytest.param({"version": 1, "namespaces": ["user"]}, "namespaces", id="user is no wish"),
        pytest.param({"version": 1, "namespaces": [["pid"]]}, "namespaces", id="nested array"),
        pytest.param({"version": 1, "mounts": {}}, "mounts", id="object for an array"),
        pytest.param({"version": 1, "mounts": ["/tmp"]}, "mounts[0]", id="string for a mount"),
        pytest.param({"version": 1, "mounts": [{}]}, "mounts[0]: kind", id="mount without kind"),
        pytest.param(
            {"version": 1, "mounts": [{"kind": "tmpfs"}]}, "target", id="mount without target"
        ),
        pytest.param(
            {"version": 1, "mounts": [{"kind": "tmpfs", "target": "tmp"}]}, "target", id="relative"
        ),
        pytest.param(
            {"version": 1, "mounts": [{"kind": "tmpfs", "target": "/a/../b"}]}, "'..'", id="dots"
        ),
        pytest.param(
            {"version": 1, "mounts": [{"kind": "tmpfs", "target": "/t\0"}]}, "target", id="NUL"
        ),
        pytest.param(
            {"version": 1, "mounts": [{"kind": "tmpfs", "target": "/\ud800"}]},
            "target",
            id="half a character: no path on any file system",
        ),
        pytest.param(
            {"version": 1, "mounts": [{"kind": "bind", "target": "/mnt"}]},
            "source",
            id="bind without source",
        ),
        pytest.param(
            {"version": 1, "mounts": [{"kind": "tmpfs", "target": "/tmp", "source": "/x"}]},
            "source",
            id="tmpfs with source",
        ),
        pytest.param(
            {"version": 1, "mounts": [{"kind": "private", "target": "/tmp", "read_only": False}]},
            "read_only",
            id="private with read_only",
        ),
        pytest.param(
            {
                "version": 1,
                "mounts": [{"kind": "bind", "target": "/m", "source": "/s", "read_only": 1}],
            },
            "read_only",
            id="1 is not true",
        ),
        pytest.param(
            {"version": 1, "mounts": [{"kind": "private", "target": "/tmp", "size_bytes": 4096}]},
            "a directory on disk has no size of its own; a tmpfs has",
            id="private with a size",
        ),
        pytest.param(
            {"version": 1, "mounts": [{"kind": "tmpfs", "target": "/tmp", "size_bytes": 0}]},
            "size_bytes: expected a whole number from 4096",
            id="0 would be no limit",
        ),
        pytest.param(
            {"version": 1, "mounts": [{"kind": "tmpfs", "target": "/tmp", "inodes": True}]},
            "inodes: expected a whole number",
            id="true for a number",
        ),
        pytest.param(
            {"version": 1, "mounts": [{"kind": "overlay", "target": "/m"}]},
            "source",
            id="overlay without source",
        ),
        pytest.param(
            {"version": 1, "mounts": [{"kind": "tmpfs", "target": "/m"}] * 65},
            "mounts: at most 64",
            id="too many mounts",
        ),
        pytest.param({"version": 1, "hide": "execute"}, "hide", id="string for paths"),
        pytest.param({"version": 1, "hide": ["data"]}, "hide", id="relative path to hide"),
        pytest.param({"version": 1, "hide": ["/a/../b"]}, "'..'", id="dots in what is hidden"),
        pytest.param({"version": 1, "loopback": True}, "loopback", id="true for a word"),
        pytest.param({"version": 1, "keyring": "own_if_possible"}, "keyring", id="wrong word"),
        pytest.param({"version": 1, "no_new_privs": "true"}, "no_new_privs", id="word for true"),
        pytest.param({"version": 1, "cgroup": "slice"}, "cgroup", id="unknown cgroup"),
        pytest.param({"version": 1, "cgroup": None}, "cgroup", id="null for a choice"),
        pytest.param({"version": 1, "cgroup": ["leaf"]}, "cgroup", id="array for a choice"),
        pytest.param({"version": 1, "on_failure": "ignore"}, "on_failure", id="unknown on_failure"),
        pytest.param({"version": 1, "on_failure": False}, "on_failure", id="false for a choice"),
        pytest.param(
            {"version": 1, "namespaces": []}, "mounts", id="the built-in mounts need mount"
        ),
        pytest.param(
            {"version": 1, "namespaces": ["pid"], "mounts": []}, "namespaces", id="pid needs mount"
        ),
        pytest.param(
            {"version": 1, "namespaces": ["mount", "cgroup"], "cgroup": "none"},
            "namespaces",
            id="cgroup needs a leaf",
        ),
        pytest.param(
            {"version": 1, "namespaces": ["cgroup"], "mounts": []},
            "namespaces",
            id="cgroup needs mount",
        ),
    ],
)
def test_refused_naming_file_and_place(entries: dict[str, object], where: str) -> None:
    with pytest.raises(PlanError) as caught:
        read(**entries)
    assert str(caught.value).startswith("plan.json: ")
    assert where in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"null", id="null"),
        pytest.param(b"[]", id="array"),
        pytest.param(b'"plan"', id="string"),
        pytest.param(b'{"version": NaN}', id="NaN"),
        pytest.param(b'{"version": Infinity}', id="Infinity"),
        pytest.param(b'{"version": 1' + b"0" * 5000 + b"}", id="a number of 5,000 digits"),
        pytest.param(b'{"version": 1} {"version": 1}', id="two documents"),
        pytest.param(b'{"version": 2, "version": 1}', id="the same key twice"),
        pytest.param(b"\xff\xfe\x00", id="not UTF-8"),
        pytest.param(b"[" * 60000, id="nested deeply"),
        pytest.param(b'{"version": 1}' + b" " * 10_000_000, id="10 MB"),
        pytest.param(b" " * MAXIMUM_BYTES + b'{"version": 1}', id="one document too large"),
    ],
)
def test_not_a_plan_at_all(document: bytes) -> None:
    with pytest.raises(PlanError) as caught:
        read_plan(document, "plan.json")
    assert "\n" not in str(caught.value)


def test_the_largest_document_is_read() -> None:
    document = b'{"version": 1}'.ljust(MAXIMUM_BYTES)
    assert read_plan(document, "plan.json").cgroup == "leaf"


def test_no_depth_of_nesting_gets_through() -> None:
    # Between what the parser takes and what repr() takes there is a gap at some depth.
    for depth in range(100, 4000, 7):
        document = b'{"version": 1, "cgroup": %s}' % (b"[" * depth + b"]" * depth)
        with pytest.raises(PlanError):
            read_plan(document, "plan.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)
LIKELY = st.fixed_dictionaries(
    {"version": st.just(1)},
    optional={
        "namespaces": st.lists(st.sampled_from(["pid", "mount", "ipc"]) | JSON),
        "mounts": st.lists(
            st.fixed_dictionaries(
                {"kind": st.sampled_from(["private", "bind", "tmpfs"])},
                optional={
                    "target": st.text() | JSON, "source": JSON, "read_only": JSON,
                    "size_bytes": JSON,
                },
            )
        ),
        "cgroup": JSON,
        "on_failure": JSON,
    },
)


def plan_or_error_of_one_line(document: bytes) -> None:
    try:
        read_plan(document, "plan.json")
    except PlanError as error:
        line = str(error)
    else:
        return
    assert line.isprintable()  # no line break among others


@given(st.binary())
def test_any_bytes(document: bytes) -> None:
    plan_or_error_of_one_line(document)


@given(JSON | LIKELY)
def test_any_json(value: object) -> None:
    plan_or_error_of_one_line(json.dumps(value).encode())


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('{"version": 1, "on_failure": "run"}')
    assert load_plan(str(path)).on_failure == "run"


def test_no_file_is_not_a_wrong_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_plan(str(tmp_path / "plan.json"))


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="Is a directory"):
        load_plan(str(tmp_path))
