"""Metrics as text, and in a file for the textfile collector of node_exporter.

Source: prometheus.io, "Exposition formats", the text format 0.0.4; node_exporter, "Textfile
Collector": it takes files whose names end in .prom, and wants them replaced at once.
"""

from __future__ import annotations

import os
import tempfile

from ledge.errors import LedgeError
from ledge.monitoring.metrics import Family, Labels

SUFFIX = ".prom"
_MODE = 0o644


def text_of(families: list[Family]) -> str:
    """The text of all metrics."""
    return "".join([_text(family) for family in families])


def write_textfile(path: str, families: list[Family]) -> None:
    """Put the text in the place of the file, as a whole. Raises LedgeError."""
    directory = os.path.dirname(os.path.abspath(path))
    try:
        fd, new = tempfile.mkstemp(prefix=".condor_ledge-", dir=directory)
        try:
            with open(fd, "w", encoding="utf-8") as file:
                file.write(text_of(families))
                os.fchmod(fd, _MODE)
            os.replace(new, path)
        except OSError:
            os.unlink(new)
            raise
    except OSError as error:
        raise LedgeError(f"cannot write {path}: {error.strerror}") from None


def _text(family: Family) -> str:
    help_ = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    lines = [f"# HELP {family.name} {help_}\n# TYPE {family.name} {family.type}\n"]
    for labels, value in family.samples.items():
        lines.append(f"{family.name}{_labels(labels)} {value!r}\n")
    return "".join(lines)


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join([f'{name}="{_escaped(value)}"' for name, value in labels]) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
