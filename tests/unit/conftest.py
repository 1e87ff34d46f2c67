"""A fixture for tests of limits: a node of files, on which nothing has been written yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.node_of_files import Kernel, Node, delegate


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    monkeypatch.setattr(Kernel, "refusals", {})
    monkeypatch.setattr(Kernel, "ignored", set())
    monkeypatch.setattr(Kernel, "written", [])
    delegate(monkeypatch, "condor.service", "trusted.delegate")
    return Node(tmp_path)
