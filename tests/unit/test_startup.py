"""The start-up contract: what every job waits for is small, and compiled beforehand."""

from __future__ import annotations

import importlib.util
import marshal
import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.installed import LIBEXEC, PYTHON, SOURCE_ROOT

# What the hooks may import beside ledge's own modules: what Python has loaded by itself when a
# script runs with -ISE, and modules that are compiled in or small.
ALLOWED = {
    "__future__", "_ctypes", "_signal", "_socket", "_struct", "errno", "posix", "select", "time",
}  # fmt: skip

# Milliseconds each (STYLE.md): named so that a failure says what is wrong with them.
FORBIDDEN = {
    "argparse", "collections", "contextlib", "ctypes", "dataclasses", "enum", "functools", "json",
    "logging", "os", "pathlib", "re", "shutil", "signal", "site", "socket", "struct",
    "subprocess", "tempfile", "threading", "traceback", "types", "typing",
}  # fmt: skip

HOOKS = ["job_wrapper", "job_wrapper_alone", "prepare_job", "prepare_job_alone"]
WAYS_IN = [
    "ledge.wrapper.main",
    "ledge.wrapper.by_daemon",
    "ledge.wrapper.in_process",
    "ledge.wrapper.settle",
    "ledge.wrapper.session",
    "ledge.prepare_job",
]


def modules_after(statement: str) -> set[str]:
    """The modules loaded in a new interpreter after the statement."""
    code = f"import sys; sys.path.insert(0, {str(SOURCE_ROOT)!r})\n{statement}\n"
    code += "print('\\n'.join(sys.modules))"
    output = subprocess.check_output([PYTHON, "-ISE", "-c", code], text=True)
    return set(output.splitlines())


@pytest.mark.parametrize("module", WAYS_IN)
def test_imports_nothing_that_costs(module: str) -> None:
    loaded = modules_after(f"import {module}") - modules_after("pass")
    foreign = {name for name in loaded if name.partition(".")[0] != "ledge"}
    assert not foreign & FORBIDDEN
    assert foreign <= ALLOWED


@pytest.mark.parametrize(
    "hook", ["job_wrapper", "prepare_job", "job_wrapper_alone", "prepare_job_alone"]
)
def test_a_hook_runs_without_site_and_environment(installed: Path, hook: str) -> None:
    first = (installed / hook).read_text().splitlines()[0]
    assert first == f"#!{PYTHON} -ISE"
    assert stat.S_IMODE((installed / hook).stat().st_mode) == 0o755


@pytest.mark.requires("userns")
def test_a_whole_job_imports_nothing_that_costs(installed: Path, tmp_path: Path) -> None:
    # Imports that wait until they are needed are not seen above.
    command = [
        PYTHON,
        "-ISE",
        "-X",
        "importtime",
        str(installed / "job_wrapper_alone"),
        "/bin/true",
    ]
    environment = {"_CONDOR_SCRATCH_DIR": str(tmp_path)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    lines = [line for line in result.stderr.splitlines() if line.startswith("import time:")]
    loaded = {line.rpartition("|")[2].strip() for line in lines}
    assert "ledge.wrapper.settle" in loaded
    assert "ledge.wrapper.session" not in loaded
    assert not loaded & FORBIDDEN


def test_every_module_is_installed_with_its_bytecode(installed: Path) -> None:
    sources = sorted(installed.rglob("*.py"))
    expected = sorted((SOURCE_ROOT / "ledge").rglob("*.py"))
    assert [path.relative_to(installed) for path in sources] == [
        path.relative_to(SOURCE_ROOT) for path in expected
    ]
    tag = subprocess.check_output(
        [PYTHON, "-c", "import sys; print(sys.implementation.cache_tag)"], text=True
    ).strip()
    for source in sources:
        assert (source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc").is_file()


def test_the_bytecode_is_valid(installed: Path) -> None:
    """Neither stale nor of another interpreter: the header names the source's time and size."""
    magic = subprocess.check_output(
        [PYTHON, "-c", "import importlib.util as u, sys; sys.stdout.buffer.write(u.MAGIC_NUMBER)"]
    )
    for source in installed.rglob("*.py"):
        (compiled,) = (source.parent / "__pycache__").glob(f"{source.stem}.*.pyc")
        header = compiled.read_bytes()[:16]
        status = source.stat()
        assert header[:4] == magic
        assert int.from_bytes(header[4:8], "little") == 0  # checked by time, not by hash
        assert int.from_bytes(header[8:12], "little") == int(status.st_mtime) & 0xFFFFFFFF
        assert int.from_bytes(header[12:16], "little") == status.st_size & 0xFFFFFFFF


def test_the_bytecode_names_the_installed_path_in_tracebacks(installed: Path) -> None:
    version = subprocess.check_output([PYTHON, "-c", "import sys; print(sys.version_info[:2])"])
    magic_here = importlib.util.MAGIC_NUMBER
    (compiled,) = (installed / "ledge/wrapper/__pycache__").glob("main.*.pyc")
    contents = compiled.read_bytes()
    assert contents[:4] == magic_here, f"the tests run in another Python than {version!r}"
    code = marshal.loads(contents[16:])
    assert code.co_filename == f"/{LIBEXEC}/condor-ledge/ledge/wrapper/main.py"


def test_python_uses_the_bytecode(installed: Path) -> None:
    """Nothing is compiled at the start, also not by somebody who could write it."""
    command = [PYTHON, "-ISE", "-v", str(installed / "prepare_job_alone")]
    result = subprocess.run(command, input="", capture_output=True, text=True, check=True)
    ours = [line for line in result.stderr.splitlines() if "/condor-ledge/ledge/" in line]
    assert any("matches" in line for line in ours)
    assert not [line for line in ours if line.startswith(("# code object from '", "# wrote"))
                and line.rstrip("'").endswith(".py")]  # fmt: skip


def test_nobody_but_root_can_write_what_is_installed(installed: Path) -> None:
    for directory, _, files in os.walk(installed):
        for path in (Path(directory), *(Path(directory, name) for name in files)):
            assert not path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            assert path.stat().st_uid == os.geteuid()
