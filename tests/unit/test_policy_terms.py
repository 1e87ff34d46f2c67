"""What of a policy the daemon knows, and which mounts of a decision it takes for a forgery."""

from __future__ import annotations

import pytest

from ledge.plan.plan import Mount, Plan
from ledge.policy.document import read_policy
from ledge.policy.terms import Terms, is_of_the_system, read_terms, terms_of, written_terms

POLICY = b"""\
version: 1
without_daemon: requeue
defaults:
  hide: [execute, /data/secret]
  mounts:
  - {kind: bind, source: /srv/krb5.conf, target: /etc/krb5.conf, read_only: true}
  - kind: bind
    source: strcat("/scratch/", TARGET.Owner)
    target: /scratch
rules:
- name: home
  match: true
  mounts:
  - {kind: private, target: 'strcat("/home/", TARGET.Owner)'}
  - {kind: tmpfs, target: /var/cache/fast}
- name: offers
  match: true
  requests:
    mounts: {offered: {data: {kind: bind, source: /data, target: /mnt, read_only: true}}}
    hide: {at_most: [execute, /data/secret, /data/more]}
"""
FORGED = [
    Mount("bind", "/etc/krb5.conf", "/tmp/mine", True),
    Mount("bind", "/etc/krb5.conf", "/srv/krb5.conf", False),
    Mount("bind", "/etc", "/srv/krb5.conf", True),
    Mount("bind", "/scratch", "/scratch/alice", True),
    Mount("bind", "/mnt", "/etc", True),
    Mount("private", "/etc"),
    Mount("private", "//etc/./pam.d"),
    Mount("private", "/"),
    Mount("private", "/var"),
    Mount("tmpfs", "/home/alice"),
    Mount("tmpfs", "/tmp"),
    Mount("tmpfs", "/var/cache"),
]
TRUE = [
    Mount("bind", "/etc/krb5.conf", "/srv/krb5.conf", True),
    Mount("bind", "/scratch", "/scratch/bob"),
    Mount("bind", "/mnt", "/data", True),
    Mount("private", "/home/alice"),
    Mount("private", "/var/tmp/alice"),
    Mount("tmpfs", "/var/cache/fast"),
    *Plan().mounts,
]


@pytest.fixture(scope="module")
def terms() -> Terms:
    return terms_of(read_policy(POLICY, "policy.yaml"))


def plan(*mounts: Mount) -> Plan:
    made = Plan()
    made.mounts = mounts
    return made


@pytest.mark.parametrize("mount", FORGED, ids=lambda mount: f"{mount.kind} {mount.target}")
def test_a_mount_that_the_policy_has_not(terms: Terms, mount: Mount) -> None:
    assert terms.forged(plan(*TRUE, mount)) is mount


@pytest.mark.parametrize("mount", TRUE, ids=lambda mount: f"{mount.kind} {mount.target}")
def test_a_mount_that_it_has(terms: Terms, mount: Mount) -> None:
    assert terms.forged(plan(mount)) is None


@pytest.mark.parametrize("path", ["/etc/sudoers.d", "/data", "/data/secret/x"])
def test_a_path_hidden_that_the_policy_does_not_hide(terms: Terms, path: str) -> None:
    made = Plan()
    made.hide = ("execute", "/data/secret", path)
    forged = terms.forged(made)
    assert forged is not None and forged.target == path


def test_paths_that_it_hides_or_lets_be_hidden(terms: Terms) -> None:
    made = Plan()
    made.hide = ("execute", "/data/secret", "/data/more")
    assert terms.forged(made) is None


def test_nothing_but_the_built_in_mounts_without_a_policy() -> None:
    terms = Terms("hold", ())
    assert terms.forged(Plan()) is None
    assert terms.forged(plan(Mount("private", "/scratch"))) is not None


def test_they_come_back_as_they_were(terms: Terms) -> None:
    assert read_terms(written_terms(terms)) == terms
    assert terms.without_daemon == "requeue"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '["run"]',
        '["x", [], []]',
        '["run", [[]], []]',
        '["run", 1, []]',
        '["run", [], [1]]',
    ],
)
def test_what_are_no_terms(text: str) -> None:
    with pytest.raises(ValueError, match="no terms of a policy"):
        read_terms(text)


@pytest.mark.parametrize("path", ["/", "//", "/etc", "/etc/x", "/./etc", "/usr/local", "/dev/shmx"])
def test_directories_of_the_system(path: str) -> None:
    assert is_of_the_system(path)


@pytest.mark.parametrize("path", ["/tmp", "/var/tmp/x", "/dev/shm", "/home", "/etcx", "/mnt/etc"])
def test_other_directories(path: str) -> None:
    assert not is_of_the_system(path)
