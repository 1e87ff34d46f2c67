"""What systemd delegated: cpuset is handed on from the unit down, and what it lacks is foreseen."""

from __future__ import annotations

import errno
import os
from contextlib import closing

import pytest

from ledge.daemon.foresight import absent
from tests.unit.node_of_files import ABOVE, UNIT, Kernel, Node, delegate


class TestEnablingCpuset:
    @pytest.mark.parametrize("attribute", ["trusted.delegate", "user.delegate"])
    def test_from_the_delegated_unit_down(
        self, node: Node, monkeypatch: pytest.MonkeyPatch, attribute: str
    ) -> None:
        delegate(monkeypatch, "condor.service", attribute)
        assert "cpuset.cpus" in node.enforce(exclusive_cpus=1).enforced

    def test_not_where_nothing_is_delegated(
        self, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        delegate(monkeypatch, "no unit", "trusted.delegate")
        reason = node.enforce(exclusive_cpus=1).not_enforced["cpuset.cpus"]
        assert "is delegated" in reason and "Delegate=yes" in reason
        assert Kernel.written == []

    def test_a_mark_on_the_slice_itself_means_nothing(
        self, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The slice's directory is the job's user's, who can mark it."""
        delegate(monkeypatch, "slot1_1.slice", "user.delegate")
        assert "cpuset.cpus" in node.enforce(exclusive_cpus=1).not_enforced
        assert Kernel.written == []

    def test_a_unit_without_the_controller(self, node: Node) -> None:
        (node.root / UNIT / "cgroup.controllers").write_text("cpu memory\n")
        reason = node.enforce(exclusive_cpus=1).not_enforced["cpuset.cpus"]
        assert "condor.service has no cpuset controller" in reason
        assert Kernel.written == []

    def test_a_unit_with_processes_of_its_own(self, node: Node) -> None:
        Kernel.refusals["cgroup.subtree_control"] = errno.EBUSY
        reason = node.enforce(exclusive_cpus=1).not_enforced["cpuset.cpus"]
        assert "+cpuset in" in reason and "DelegateSubgroup=leaf" in reason

    def test_what_is_on_already_is_not_written(self, node: Node) -> None:
        node.enforce(exclusive_cpus=1)
        Kernel.written.clear()
        node.enforce("slot1_2", exclusive_cpus=1)
        assert not [file for file, _ in Kernel.written if file.endswith("subtree_control")]

    def test_what_the_unit_has_not_is_foreseen(
        self, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        leaf = node.root / UNIT / "leaf"
        leaf.mkdir()
        for file in ("cgroup.type", "cgroup.controllers"):
            (leaf / file).write_text(ABOVE[file])
        with closing(Kernel.open(os.fsencode(leaf))) as starter_s:
            assert list(absent(starter_s, {"pids.max", "io.max"})) == ["io.max"]
            (node.root / UNIT / "cgroup.controllers").write_text("cpu memory\n")
            (node.root / UNIT / "pids.max").unlink()
            reason = absent(starter_s, {"pids.max"})["pids.max"]
            assert "the pids controller is off" in reason and "Delegate=yes" in reason
            delegate(monkeypatch, "no unit", "trusted.delegate")
            assert absent(starter_s, {"pids.max"}) == {}
