"""Mounts of a size, and those that a job writes itself: what it may have, and what it may not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledge.cli.policy import _print as show
from ledge.plan.plan import Mount, Plan
from ledge.policy.asked_mounts import MOST_ASKED, paths_needed
from ledge.policy.document import read_policy
from ledge.policy.errors import PolicyError
from ledge.policy.terms import Terms, terms_of
from ledge.usage.attributes import isolation_attributes
from tests.unit.test_policy_decision import decided, plan, refused

POLICY = """\
defaults:
  mounts:
  - {kind: private, target: /tmp}
  - {kind: tmpfs, target: /dev/shm, size: 25%}
  requests:
    mounts:
      offered:
        data: {kind: bind, source: /data, target: /mnt}
      at_most:
      - {kind: bind, source: /data, target: /scratch, read_only: true}
      - {kind: bind, source: /home/shared, target: /home/shared}
      - {kind: tmpfs, target: /scratch, size: 512M, inodes: 1000}
      - {kind: tmpfs, target: /tmp, size: 50%}
      - {kind: tmpfs, target: /free}
      - {kind: overlay, source: /data, target: /scratch}
      - {kind: private, target: /scratch}
"""
MEBIBYTE = 1 << 20


def asked(value: str) -> bytes:
    return f"LedgeMounts = {value}\n".encode()


def words(*mounts: Mount) -> str:
    return isolation_attributes((), "", mounts)["Mounts"]


@pytest.mark.parametrize(
    ("size", "size_bytes"),
    [
        ("2G", 2048 * MEBIBYTE),
        ("50%", 1024 * MEBIBYTE),  # of the slot's Memory
        ("MY.Memory * 1024 * 1024 / 4", 512 * MEBIBYTE),
        ('strcat("1", "M")', MEBIBYTE),
        ("none", None),
    ],
)
def test_sizes(size: str, size_bytes: int | None) -> None:
    text = f"defaults:\n  mounts:\n  - kind: tmpfs\n    target: /tmp\n    size: '{size}'\n"
    (mount,) = plan(text + "    inodes: 100 * TARGET.RequestCpus\n").mounts
    assert (mount.size_bytes, mount.inodes) == (size_bytes, 200)


def test_a_size_that_is_undefined_refuses_the_job() -> None:
    text = refused("defaults:\n  mounts: [{kind: tmpfs, target: /tmp, size: TARGET.Missing}]\n")
    assert text.startswith("policy.yaml:3: defaults: mounts: size: TARGET.Missing is undefined")


@pytest.mark.parametrize(
    ("mounts", "told"),
    [
        ("{kind: private, target: /tmp, size: 2G}", "has no size of its own; a tmpfs has"),
        ("{kind: bind, source: /a, target: /b, size: 2G}", "size: only a mount of kind 'tmpfs'"),
        ("{kind: tmpfs, target: /a, size: 100}", "expected a number such as 2G or 50%, at least"),
        ("{kind: tmpfs, target: /a, inodes: 0}", "inodes: expected a whole number"),
        ("{kind: tmpfs, target: /a, nosuid: true}", "nosuid: only a mount of kind 'bind'"),
        ("{kind: overlay, target: /a}", "source: expected an absolute path"),
        ("{kind: overlay, source: /a, target: /b, read_only: true}", "read_only: only a mount"),
        ("{kind: tmpfs, target: /a, size_bytes: 4096}", "unknown key 'size_bytes'"),
    ],
)
def test_what_is_no_mount(mounts: str, told: str) -> None:
    with pytest.raises(PolicyError) as caught:
        read_policy(f"version: 1\ndefaults:\n  mounts: [{mounts}]\n".encode(), "policy.yaml")
    assert str(caught.value).startswith("policy.yaml:3: ")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("bound", "told"),
    [
        ("{kind: tmpfs, target: /etc/x}", "programs of root's believe what is at /etc/x"),
        ("{kind: tmpfs, target: /var/lib}", "programs of root's believe"),
        ("{kind: private, target: /}", "the paths must be written out"),
        ("{kind: private, target: 'strcat(\"/home/\", TARGET.Owner)'}", "must be written out"),
        ("{kind: bind, source: TARGET.Path, target: /scratch}", "must be written out"),
        ("{kind: bind, source: /, target: /scratch}", "must be written out"),
        ("{kind: bind, source: /data/./x, target: /scratch}", "must be written out"),
        ("{kind: bind, source: /proc/1, target: /scratch}", "shows what is hidden elsewhere"),
        ("{kind: overlay, source: /sys, target: /scratch}", "shows what is hidden elsewhere"),
        ("{kind: devpts, target: /scratch}", "a job may write no mount of kind 'devpts'"),
        ("/scratch", "expected one of private"),
    ],
)
def test_what_no_policy_can_let_a_job_write(bound: str, told: str) -> None:
    text = f"version: 1\ndefaults:\n  requests:\n    mounts:\n      at_most: [{bound}]\n"
    with pytest.raises(PolicyError) as caught:
        read_policy(text.encode(), "policy.yaml")
    assert str(caught.value).startswith("policy.yaml:5: ")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ('"bind:/data:/scratch:ro"', "bind:/data:/scratch:ro"),
        ('"bind:/data/a:/scratch/b:ro"', "bind:/data/a:/scratch/b:ro"),
        ('"bind:/home/shared"', "bind:/home/shared:/home/shared"),
        ('"bind:/home/shared:ro"', "bind:/home/shared:/home/shared:ro"),
        ('"bind:/home/shared/a:/home/shared/b:rw"', "bind:/home/shared/a:/home/shared/b"),
        ('"tmpfs:/scratch:512M"', "tmpfs:/scratch:512M:1000"),
        ('"tmpfs:/scratch"', "tmpfs:/scratch:512M:1000"),
        ('"tmpfs:/scratch/a:1M:10"', "tmpfs:/scratch/a:1M:10"),
        ('"tmpfs:/scratch:10%"', "tmpfs:/scratch:214748364:1000"),
        ('"tmpfs:/free:none:5"', "tmpfs:/free:none:5"),
        ('"overlay:/data/tree:/scratch"', "overlay:/data/tree:/scratch"),
        ('"private:/scratch/p"', "private:/scratch/p"),
        ('"data"', "bind:/data:/mnt"),
        ('" data , tmpfs:/free "', "bind:/data:/mnt, tmpfs:/free"),
        ('{"data", "tmpfs:/free"}', "bind:/data:/mnt, tmpfs:/free"),
        ('strcat("tmpfs:/free:", RequestCpus, "M")', "tmpfs:/free:2M"),
    ],
)
def test_what_a_job_may_write(value: str, told: str) -> None:
    own = "private:/tmp, tmpfs:/dev/shm:512M, "
    made = plan(POLICY, asked(value))
    assert words(*made.mounts) == own + told
    written = [mount for mount in made.mounts if mount.kind == "bind" and mount.target != "/mnt"]
    assert all(mount.nosuid for mount in written)


def test_an_explanation_says_what_is_mounted(capsys: pytest.CaptureFixture[str]) -> None:
    asking = '"bind:/data:/scratch/b:ro, overlay:/data:/scratch/o, tmpfs:/scratch/t:1M"'
    show(decided(POLICY, asked(asking)))
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[-4:] == [
        "tmpfs /dev/shm, 512M",
        "/data at /scratch/b, read-only, no set-uid programs",
        "overlay over /data at /scratch/o",
        "tmpfs /scratch/t, 1M, 1000 inodes",
    ]


def test_what_must_be_on_the_node() -> None:
    made = plan(POLICY, asked('"tmpfs:/free, bind:/data/x:/scratch:ro, private:/scratch/p"'))
    assert paths_needed(made) == ["/tmp", "/dev/shm", "/free", "/data/x", "/scratch"]


def test_a_mount_takes_the_place_of_what_would_be_empty_below_it() -> None:
    made = plan(POLICY, asked('"tmpfs:/tmp:1G"'))
    assert words(*made.mounts) == "tmpfs:/dev/shm:512M, tmpfs:/tmp:1G"


WRONG = [
    '"bind:/data:/scratch"',  # read-only it may be
    '"bind:/database:/scratch:ro"',
    '"bind:/etc:/scratch:ro"',
    '"bind:/data:/etc:ro"',
    '"bind:/data:/scratchy:ro"',
    '"bind:/data:ro"',
    '"tmpfs:/scratch:513M"',
    '"tmpfs:/scratch:none:1001"',
    '"tmpfs:/etc"',
    '"tmpfs:/etc/pam.d"',
    '"tmpfs:/"',
    '"overlay:/home/shared:/scratch"',
    '"private:/tmp"',
    '"home"',
    '"data, bind:/data:/usr/lib:ro"',
]
WITHOUT_SENSE = [
    '"tmpfs:/scratch:many"',
    '"tmpfs:/scratch:-1"',
    '"tmpfs:/scratch:1M:2:3"',
    '"tmpfs:scratch"',
    '"bind:/data/../etc:/scratch:ro"',
    '"bind:/data:/scratch/./x:ro"',
    '"bind:/data:/scratch//x:ro"',
    '"bind:/data:/scratch:/x:ro"',
    '"bind:ro"',
    '"bind:"',
    '"devpts:/scratch"',
    '"hidden:/etc"',
    '":"',
    '{"tmpfs:/free", 1}',
    "5",
    '"' + ",".join([f"tmpfs:/free/{number}" for number in range(MOST_ASKED + 1)]) + '"',
]


@pytest.mark.parametrize("value", WRONG)
def test_what_a_job_may_not_write(value: str) -> None:
    text = refused(POLICY, asked(value))
    assert text.startswith("LedgeMounts of the job asks for ") or '"tmpfs:/"' in text
    assert text.endswith("(defaults (policy.yaml:7))")


def test_the_reason_says_what_it_may() -> None:
    text = refused(POLICY, asked('"tmpfs:/etc"'))
    assert text.startswith(
        "LedgeMounts of the job asks for tmpfs:/etc; this node offers data, and allows at most "
        "bind:/data:/scratch:ro, bind:/home/shared:/home/shared, tmpfs:/scratch:512M, "
        "tmpfs:/tmp:50%, tmpfs:/free, overlay:/data:/scratch, private:/scratch"
    )


@pytest.mark.parametrize("value", WITHOUT_SENSE)
def test_what_makes_no_sense(value: str) -> None:
    text = refused(POLICY, asked(value))
    assert text.startswith("LedgeMounts of the job is ") and "expected" in text


def test_without_bounds_a_job_writes_none() -> None:
    policy = "defaults:\n  requests: {mounts: {offered: {data: {kind: tmpfs, target: /d}}}}\n"
    assert "; this node offers data (" in refused(policy, asked('"tmpfs:/d"'))
    assert plan("defaults: {pids_max: 5}\n", asked('"tmpfs:/d"')).mounts[-1].target == "/dev/pts"


@pytest.fixture(scope="module")
def terms() -> Terms:
    return terms_of(read_policy(f"version: 1\n{POLICY}".encode(), "policy.yaml"))


@settings(deadline=None)
@given(text=st.text(st.sampled_from("abdfimnoprst/:,. 1MG%"), max_size=40))
def test_whatever_a_job_writes_the_daemon_finds_in_the_policy(terms: Terms, text: str) -> None:
    for word in (text, "bind:/data" + text, "tmpfs:/scratch" + text, "overlay:/data" + text):
        decision = decided(POLICY, asked(f'"{word}"'))
        assert decision.plan is None or terms.forged(decision.plan) is None


FORGED = [
    Mount("bind", "/scratch", "/data", True),  # set-uid programs would have their rights
    Mount("bind", "/scratch", "/data", False, True),
    Mount("bind", "/etc", "/data", True, True),
    Mount("bind", "/scratch", "/etc", True, True),
    Mount("bind", "/scratch/./x", "/dat", True, True),
    Mount("tmpfs", "/etc"),
    Mount("tmpfs", "/scratchy"),
    Mount("tmpfs", "/"),
    Mount("overlay", "/scratch", "/home/shared"),
    Mount("overlay", "/mnt", "/data"),
    Mount("private", "/free"),
]


@pytest.mark.parametrize("mount", FORGED, ids=words)
def test_a_forged_mount_that_a_job_could_not_write(terms: Terms, mount: Mount) -> None:
    made = Plan()
    made.mounts = (*made.mounts, mount)
    assert terms.forged(made) is mount
