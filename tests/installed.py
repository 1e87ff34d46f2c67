"""condor-ledge as packaging/install puts it on a node, below a directory for the tests."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE_ROOT = Path(__file__).resolve().parents[1]
LIBEXEC = Path("usr/libexec/condor")
PYTHON = "/usr/bin/python3"


def install(python: str = PYTHON) -> Path:
    """Install into a new directory that everybody can read; return where the hooks are."""
    destination = Path(tempfile.mkdtemp(prefix="ledge-installed-"))
    destination.chmod(0o755)
    command = [str(SOURCE_ROOT / "packaging/install"), "--destdir", str(destination)]
    subprocess.run([*command, "--python", python, "--libexec", f"/{LIBEXEC}"], check=True)
    return destination / LIBEXEC / "condor-ledge"


def uninstall(home: Path) -> None:
    """Remove what install() made."""
    shutil.rmtree(home.parents[len(LIBEXEC.parts)])
