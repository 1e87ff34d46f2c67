"""Programs that people run, natively: those of tests/programs.py that need what tests/run installs.

All of them, and as the node's default policy has it, run on the pool (tests/pool/test_programs.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from tests.kernel.starter import Starter
from tests.programs import DEVICE, NATIVE, TABLE, Program


def native() -> list[object]:
    """The programs of the table, with what they need of this machine."""
    found: list[object] = []
    for program in TABLE:
        if set(program.packages) <= set(NATIVE):
            needs = pytest.mark.requires(*[NATIVE[package] for package in program.packages])
            found.append(pytest.param(program, marks=needs, id=program.name))
    return found


@pytest.fixture(scope="module")
def _device() -> Iterator[None]:
    os.mknod(DEVICE, 0o20666, os.makedev(1, 3))
    os.chmod(DEVICE, 0o666)
    yield
    os.unlink(DEVICE)


@pytest.mark.usefixtures("_device")
@pytest.mark.parametrize("program", native())
def test_what_people_run(starter: Starter, program: Program) -> None:
    output = starter.shell(program.script).check().decode()
    assert re.fullmatch(program.output, output), output
