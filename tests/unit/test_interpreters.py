"""Every Python that the machine has can run condor-ledge: the test ids say which ones did."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installed import SOURCE_ROOT, install, uninstall

VERSIONS = [f"3.{minor}" for minor in range(9, 16)]
DIRECTORIES = [
    *Path.home().glob(".pyenv/versions/*/bin"),
    *Path.home().glob(".local/share/uv/python/*/bin"),
    *(Path(entry) for entry in os.environ.get("PATH", "").split(":") if "shims" not in entry),
    Path("/usr/bin"),
]


def interpreters() -> dict[str, str]:
    """One path for each version found."""
    found: dict[str, str] = {}
    for version in VERSIONS:
        for directory in DIRECTORIES:
            path = directory / f"python{version}"
            if os.access(path, os.X_OK):
                found.setdefault(version, str(path))
    return found


FOUND = interpreters()


@pytest.fixture(scope="module", params=[*FOUND.values()], ids=[*FOUND])
def python(request: pytest.FixtureRequest) -> str:
    path: str = request.param
    return path


@pytest.fixture(scope="module")
def home(python: str) -> Iterator[Path]:
    """An installation for the interpreter."""
    path = install(python)
    yield path
    uninstall(path)


def test_every_module_can_be_imported(python: str) -> None:
    files = sorted((SOURCE_ROOT / "ledge").rglob("*.py"))
    files = [path for path in files if path.stem != "__main__"]
    names = [".".join(path.relative_to(SOURCE_ROOT).with_suffix("").parts) for path in files]
    code = f"import sys; sys.path.insert(0, {str(SOURCE_ROOT)!r})\n"
    # The tracker's modules alone want psutil, which not every interpreter has: it says so then.
    code += "try: import psutil\nexcept ImportError: sys.modules['psutil'] = type(sys)('psutil')\n"
    code += "\n".join(f"import {name.removesuffix('.__init__')}" for name in names)
    subprocess.run([python, "-W", "error", "-IB", "-c", code], check=True)


@pytest.mark.requires("userns")
@pytest.mark.parametrize(("command", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", -9)])
def test_the_wrapper_runs_a_job(home: Path, tmp_path: Path, command: str, status: int) -> None:
    job = [str(home / "job_wrapper_alone"), "/bin/sh", "-c", f"readlink /proc/self; {command}"]
    environment = {"_CONDOR_SCRATCH_DIR": str(tmp_path)}
    result = subprocess.run(job, env=environment, cwd=tmp_path, capture_output=True)
    assert result.stderr == b""
    assert result.returncode == status
    assert int(result.stdout) < 10  # a PID in a namespace of its own


def test_the_prepare_hook_tries_a_command(home: Path, tmp_path: Path) -> None:
    ad = b'JobUniverse = 5\nCmd = "/no/such"\n'
    hook = [home / "prepare_job_alone"]
    result = subprocess.run(hook, input=ad, cwd=tmp_path, capture_output=True)
    assert b"HookStatusCode = 2" in result.stdout
    assert result.stderr == b""
