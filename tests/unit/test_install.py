"""packaging/install, below a directory of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.installed import PYTHON, SOURCE_ROOT

ACCESS_POINT = Path("etc/condor/config.d/60-condor-ledge-access-point.conf")
OF_A_NODE = ("etc/condor/config.d/50-condor-ledge.conf", "etc/condor-ledge", "usr/lib/systemd")
FOR_PEOPLE = ("usr/bin/condor_ledge", "usr/share/condor-ledge/usage.cpf")


def install(directory: Path, *options: str) -> str:
    """What it says on standard error."""
    program = str(SOURCE_ROOT / "packaging/install")
    command = [program, "--destdir", str(directory), "--python", PYTHON, *options]
    return subprocess.run(command, check=True, stderr=subprocess.PIPE, text=True).stderr


@pytest.mark.parametrize("access_point", [False, True])
def test_an_access_point_and_a_node_have_what_they_need(tmp_path: Path, access_point: bool) -> None:
    install(tmp_path, *["--access-point"] * access_point)
    assert (tmp_path / ACCESS_POINT).exists() is access_point
    assert {(tmp_path / name).exists() for name in OF_A_NODE} == {not access_point}
    assert {(tmp_path / name).exists() for name in FOR_PEOPLE} == {True}


def test_what_the_administrator_has_changed_is_kept(tmp_path: Path) -> None:
    install(tmp_path, "--access-point")
    (tmp_path / ACCESS_POINT).write_text("# mine\n")
    assert "kept the changed" in install(tmp_path, "--access-point")
    assert (tmp_path / ACCESS_POINT).read_text() == "# mine\n"
    assert "PROTECTED_JOB_ATTRS" in (tmp_path / f"{ACCESS_POINT}.rpmnew").read_text()


def test_an_option_that_is_none_is_told_what_there_are(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        install(tmp_path, "--acess-point")
    assert "--access-point" in caught.value.stderr
    assert list(tmp_path.iterdir()) == []
