"""Which jobs have one loopback, and what a plan wants that a node cannot do."""

from __future__ import annotations

import pytest

from ledge.daemon.apart import demanded, loopback_identity, not_apart, parallel_job
from ledge.network.program import identity_of
from ledge.plan.plan import Plan

PARALLEL = (
    b"JobUniverse = 11\nClusterId = 5\nProcId = %d\n"
    b'GlobalJobId = "ap.example#5.%d#1760000000"\n'
)


def identity(inode: int = 1, uid: int = 1000, ad: bytes = b"", loopback: str = "own") -> int:
    plan = Plan()
    plan.loopback = loopback
    return loopback_identity(plan, inode, uid, parallel_job(ad))


def test_every_slice_has_its_own() -> None:
    identities = {identity(inode) for inode in (1, 2, 3, 0xFFFFFF)}
    assert len(identities) == 4
    assert {number >> 24 for number in identities} == {0x4C}


def test_a_shared_loopback_has_none() -> None:
    assert identity(loopback="shared") == 0


def test_the_nodes_of_a_parallel_job_have_one() -> None:
    first, second = PARALLEL % (0, 0), PARALLEL % (1, 1)
    assert identity(1, ad=first) == identity(2, ad=first) == identity(3, ad=second)


@pytest.mark.parametrize(
    ("uid", "ad"),
    [
        pytest.param(1001, PARALLEL % (0, 0), id="another user's"),
        pytest.param(1000, PARALLEL.replace(b"= 5", b"= 6") % (0, 0), id="another cluster"),
        pytest.param(1000, PARALLEL.replace(b"ap.", b"other.") % (0, 0), id="another schedd"),
        pytest.param(1000, PARALLEL.replace(b"= 11", b"= 5") % (0, 0), id="another universe"),
    ],
)
def test_no_other_job_has_it(uid: int, ad: bytes) -> None:
    assert identity(1, uid, ad) != identity(1, 1000, PARALLEL % (0, 0))


def test_an_identity_is_a_mark_of_32_bits() -> None:
    assert identity_of(0x123456789ABC) == 0x4C789ABC


def test_what_a_node_cannot_do_is_told_if_it_is_wanted() -> None:
    plan = Plan()
    plan.abstract_sockets = "shared"
    assert not_apart(plan, "no eBPF") == {"loopback": "no eBPF"}
    assert not_apart(plan, "") == {}
    plan.loopback = "shared"
    assert not_apart(plan, "no eBPF") == {}


def test_a_wish_is_no_demand() -> None:
    plan = Plan()
    lacking = {"loopback": "no bpf", "abstract_sockets": "an old kernel", "pids.max": "no file"}
    assert demanded(plan, lacking) == {"pids.max": "no file"}
    plan.loopback = "own"
    assert demanded(plan, lacking) == {"loopback": "no bpf", "pids.max": "no file"}
