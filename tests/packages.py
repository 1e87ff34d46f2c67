"""The packages, built from this source tree as "make rpm" and "make deb" build them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.installed import SOURCE_ROOT

# What stands for a distribution where rpm is not the system's: what the package requires, no more.
DISTRIBUTION_SPEC = """
Name: distribution
Version: 1
Release: 1
Summary: What condor-ledge requires
License: none
BuildArch: noarch
Provides: /bin/sh
Provides: /usr/bin/python3
Provides: python(abi) = %(python)s
Provides: condor = 25.14
Provides: python3-condor = 25.14
Provides: python3-psutil = 5.8
Provides: python3-pyyaml = 6.0
%%description
What condor-ledge requires.
%%files
"""


def build(kind: str, directory: Path, release: int = 1, source: Path = SOURCE_ROOT) -> Path:
    """Build an "rpm" or a "deb"; the package, beside which is rpm's source package."""
    place = directory / str(release)
    environment = {**os.environ, "RELEASE": str(release), "LC_ALL": "C.UTF-8"}
    command = [str(source / "packaging/build"), kind, str(place)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (package,) = place.glob("*.noarch.rpm" if kind == "rpm" else "*.deb")
    return package


def build_distribution(directory: Path, python: str) -> Path:
    """Build a package without files that provides what ours requires, of that Python."""
    spec = directory / "distribution.spec"
    spec.write_text(DISTRIBUTION_SPEC % {"python": python})
    command = ["rpmbuild", "-bb", "--quiet", "--define", f"_topdir {directory}", str(spec)]
    subprocess.run(command, check=True, capture_output=True)
    (package,) = directory.glob("RPMS/noarch/*.rpm")
    return package
