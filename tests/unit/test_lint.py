"""Linters, and the rules of the house that no linter knows."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEDGE = sorted((ROOT / "ledge").rglob("*.py"))
HOOKS = sorted(path for path in (ROOT / "hooks").iterdir() if path.is_file())
RESTART = ROOT / "packaging/restart_ledged"
# Where a program, or a daemon's work for one client, comes to an end whatever happened.
EDGES = {
    "ledge/daemon/main.py": "main",
    "ledge/recorder/main.py": "main",
    "ledge/daemon/server.py": "_act",
    "ledge/wrapper/main.py": "main",
    "ledge/prepare_job.py": "main",
    "ledge/cli/__init__.py": "main",
    "ledge/daemon/requests.py": "handle",
}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def shell_scripts() -> list[Path]:
    """Every file of the source tree with a shell's name in its first line."""
    found = []
    for directory, names, files in os.walk(ROOT):
        names[:] = [name for name in names if name in (".ci",) or not name.startswith(".")]
        for path in (Path(directory, name) for name in files):
            with path.open("rb") as file:
                first = file.readline(80)
            if first.startswith(b"#!") and first.split()[-1].endswith((b"/sh", b"bash")):
                found.append(path)
    return sorted(found)


def check(*command: str) -> None:
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("where", ["ledge", "hooks", "packaging", "tests"])
def test_ruff(where: str) -> None:
    # "ruff format" is not asked: some tables and calls are laid out by hand for the eye.
    check(sys.executable, "-m", "ruff", "check", "--quiet", where)


PACKAGES = ["ledge", "tests/pool", "tests/unit", "tests/kernel", "tests/interference"]


@pytest.mark.parametrize("package", PACKAGES)
def test_mypy_strict(package: str) -> None:
    check(sys.executable, "-m", "mypy", "--strict", package)


def test_nothing_newer_than_python_3_9() -> None:
    files = [relative(path) for path in [*LEDGE, *HOOKS, RESTART]]
    vermin = Path(sys.executable).with_name("vermin")
    check(str(vermin), "-t=3.9-", "--no-tips", "--violations", *files)


@pytest.mark.requires("shellcheck")
@pytest.mark.parametrize("script", shell_scripts(), ids=relative)
def test_shellcheck(script: Path) -> None:
    shellcheck = shutil.which("shellcheck")
    assert shellcheck
    check(shellcheck, str(script))


@pytest.mark.parametrize("module", LEDGE, ids=relative)
def test_no_module_is_longer_than_500_lines_without_a_reason(module: Path) -> None:
    text = module.read_text()
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert len(text.splitlines()) <= 500 or "lines" in docstring


@pytest.mark.parametrize("module", LEDGE, ids=relative)
def test_every_module_says_what_it_is(module: Path) -> None:
    assert ast.get_docstring(ast.parse(module.read_text()))


def broad_handlers(module: Path) -> list[int]:
    """The lines of the clauses "except:", "except Exception" and "except BaseException"."""
    lines = []
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.walk(node.type) if node.type else ()
            names = {name.id for name in caught if isinstance(name, ast.Name)}
            if node.type is None or names & {"Exception", "BaseException"}:
                lines.append(node.lineno)
    return lines


@pytest.mark.parametrize("module", LEDGE, ids=relative)
def test_broad_except_only_at_the_outermost_edge_of_a_process(module: Path) -> None:
    allowed: set[int] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name == EDGES.get(relative(module)):
            allowed |= set(range(node.lineno, (node.end_lineno or 0) + 1))
    assert not set(broad_handlers(module)) - allowed


@pytest.mark.parametrize("hook", HOOKS, ids=relative)
def test_a_hook_has_less_than_ten_lines(hook: Path) -> None:
    lines = hook.read_text().splitlines()
    # These need HTCondor's bindings from the distribution's packages, which -S would hide.
    with_packages = hook.name in ("ledged", "ledge_recorder")
    assert lines[0] == "#!/usr/bin/python3 " + ("-I" if with_packages else "-ISE")
    assert len(lines) < 10
