"""HTCondor's configuration as one of its daemons reads it, and where each line stands."""

from __future__ import annotations

import os
import re
import subprocess
from typing import NamedTuple

from ledge.errors import LedgeError

_PATH = "/usr/bin:/usr/sbin:/bin:/sbin:/usr/local/bin:/usr/local/sbin"
_SECONDS = 30.0
_LINE = re.compile(r"^([A-Za-z_.0-9]+) = ?(.*)$")
_PLACE = "# at: "
_RAW = re.compile(r"# raw: .*:([^$:()]+)\)$")
_TRUE = ("true", "t", "1", "yes")

_NAMES = (
    "BASE_CGROUP",
    "CHIRP_DELAYED_UPDATE_MAX_ATTRS",
    "CHIRP_DELAYED_UPDATE_PREFIX",
    "CONDOR_VERSION",
    "DAEMON_LIST",
    "ENABLE_CHIRP",
    "ENABLE_CHIRP_DELAYED",
    "EXECUTE",
    "LEDGED_LOG",
    "LEDGE_DAEMON",
    "LEDGE_DAEMON_IS",
    "LEDGE_ENABLED",
    "LEDGE_ENABLED_IS",
    "LEDGE_HOOK_JOB_EXIT",
    "LEDGE_HOOK_PREPARE_JOB",
    "LEDGE_LIBEXEC",
    "LEDGE_POLICY",
    "LEDGE_RECORD",
    "LEDGE_RECORD_IS",
    "LEDGE_SPOOL",
    "LEDGE_USAGE",
    "LEDGE_USAGE_IS",
    "LOG",
    "PROTECTED_JOB_ATTRS",
    "SPOOL",
    "STARTD_CRON_JOBLIST",
    "STARTD_CRON_LEDGE_EXECUTABLE",
    "STARTD_CRON_LEDGE_METRICS",
    "STARTER_DEFAULT_JOB_HOOK_KEYWORD",
    "STARTER_JOB_HOOK_KEYWORD",
    "STARTER_NESTED_SCRATCH",
    "USER_JOB_WRAPPER",
)


class ConfigurationError(LedgeError):
    """HTCondor's configuration cannot be read."""


class Value(NamedTuple):
    """What a knob is set to, and where; what it was before, where its line says so."""

    text: str
    place: str
    before: str = ""


class Configuration:
    """The knobs that matter here, as one kind of daemon has them."""

    def __init__(self, subsystem: str, values: dict[str, Value]) -> None:
        self.subsystem = subsystem
        self._values = values

    def get(self, name: str, default: str = "") -> str:
        """The value; empty or `default` if there is none."""
        return self._values.get(name, Value(default, "")).text

    def words(self, name: str) -> list[str]:
        """The words of a list."""
        return self.get(name).replace(",", " ").split()

    def holds(self, name: str, default: bool = False) -> bool:
        """Whether a switch is on; of ours, as 50-condor-ledge.conf has understood it."""
        understood = self.get(f"{name}_IS")[:1]
        return (understood or self.get(name, str(default)).lower()) in _TRUE

    def before(self, name: str) -> str:
        """What an earlier file had set, where 50-condor-ledge.conf has replaced it."""
        return self._values.get(name, Value("", "")).before

    def setting(self, name: str) -> str:
        """The line and where it stands, for people."""
        value = self._values.get(name)
        if value is None:
            return f"{name} is not defined"
        place = f" ({value.place})" if value.place and not value.place.startswith("<") else ""
        return f"{name} = {value.text}".strip() + place


def read_configuration(subsystem: str) -> Configuration:
    """The configuration of STARTER, SHADOW, …, from the files. Raises ConfigurationError."""
    done = _run("-subsystem", subsystem, "-verbose", *_NAMES)
    if not done.stdout.strip():
        problem = f"condor_config_val says: {done.stderr.strip()}"
        raise ConfigurationError(problem, "condor_config_val -config shows what it reads")
    return Configuration(subsystem, parse(done.stdout, subsystem))


def of_daemon(daemon: str, name: str) -> str | None:
    """A knob as a running daemon has it ("master", "startd"); None if it does not say."""
    done = _run(f"-{daemon}", name)
    return done.stdout.strip() if done.returncode == 0 else None


def parse(text: str, subsystem: str) -> dict[str, Value]:
    """What condor_config_val -verbose printed, by name."""
    values: dict[str, Value] = {}
    name = ""
    for line in text.splitlines():
        found = _LINE.match(line)
        if found:
            name = found[1].upper().removeprefix(f"{subsystem}.")
            values[name] = Value(found[2].strip(), "")
        elif not line.strip():
            name = ""  # of what is not defined, the place is told without a name
        elif line.strip().startswith(_PLACE) and name:
            values[name] = Value(values[name].text, line.strip()[len(_PLACE) :])
        elif name and (raw := _RAW.match(line.strip())):
            values[name] = values[name]._replace(before=raw[1].strip())
    return values


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{_PATH}"}
    command = ["condor_config_val", *arguments]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, env=environment
        )
    except FileNotFoundError:
        problem = "there is no condor_config_val: HTCondor is not installed here"
        raise ConfigurationError(problem, "install HTCondor, or add its bin to PATH") from None
    except subprocess.TimeoutExpired:
        problem = f"{' '.join(command[:3])} gives no answer"
        raise ConfigurationError(problem, "condor_config_val -master LOG by hand") from None
