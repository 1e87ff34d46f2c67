"""Root's part: tells attackers what their victims are on the node, and ends all.

Arguments: a JSON document, {"pairs": [[VICTIM, ATTACKER], …], "node": [ATTACKER, …]}, each a
directory. Prints what each pair and each attacker on the node has tried and seen, as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 150
AHEAD = 800  # PIDs between the last one and that which is to be used again
NS_LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


def await_(happened: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            print(f"waited in vain for {what}", file=sys.stderr)
            return False
        time.sleep(0.05)
    return True


def processes() -> dict[int, str]:
    """All processes with a readable working directory."""
    found = {}
    for name in os.listdir("/proc"):
        try:
            if name.isdigit():
                found[int(name)] = os.readlink(f"/proc/{name}/cwd")
        except OSError:
            pass
    return found


def inner_pid(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("NSpid")).split()[-1])


def named(name: str) -> list[int]:
    done = subprocess.run(["pgrep", "-x", name], stdout=subprocess.PIPE, text=True)
    return [int(word) for word in done.stdout.split()]


def slice_of(group: str) -> str:
    """The nearest group above that is a job's slice."""
    while group not in ("", "/") and not group.endswith(".slice"):
        group = os.path.dirname(group)
    return group


def mount_point() -> str:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return next(line.split()[4] for line in lines if " - cgroup2 " in line)


def group_of(pid: int) -> str:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next(line[3:] for line in lines if line.startswith("0::"))


def host_view(place: str, facts: dict[str, Any]) -> dict[str, Any]:
    """What root knows of the victim whose directory this is."""
    here = [pid for pid, cwd in processes().items() if cwd == place]
    by_inner = {inner_pid(pid): pid for pid in here if is_python(pid)}
    pid = by_inner[facts["pid"]]
    group = group_of(pid)
    return {
        "pid": pid,
        "pgid": os.getpgid(pid),
        "child": by_inner[facts["child"]],
        "cgroup": group,
        "slice": mount_point() + slice_of(group),
    }


def is_python(pid: int) -> bool:
    return b"victim.py" in Path(f"/proc/{pid}/cmdline").read_bytes()


def is_there(place: str) -> bool:
    return place in processes().values()


def node_view(place: str) -> dict[str, Any]:
    here = [pid for pid, cwd in processes().items() if cwd == place]
    slice_ = mount_point() + slice_of(group_of(here[0]))
    starters, ledged = named("condor_starter"), named("ledged")
    return {
        "slice": slice_,
        "slices": os.path.dirname(slice_),
        "starter": starters[0] if starters else os.getppid(),
        "ledged": ledged[0] if ledged else None,
        "foreign_file": "/home/bob/closed",
        "foreign_process": os.getpid(),
    }


def set_on(victim: str, attacker: str) -> None:
    """Let the attacker go, when the PID of the victim's dead child is about to come again."""
    facts = json.loads(Path(victim, "facts.json").read_text())
    host = host_view(victim, facts)
    Path(victim, "go").touch()
    await_(Path(victim, "gone").exists, "the end of the victim's child", 20)
    NS_LAST_PID.write_text(str(max(0, host["child"] - AHEAD)))
    write(Path(attacker, "target.json"), {"facts": facts, "host": host})
    await_(lambda: int(NS_LAST_PID.read_text()) > host["child"], "the PID", 20)


def write(path: Path, content: object) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content))
    new.chmod(0o644)
    new.rename(path)


def told(place: str, name: str) -> Any:
    path = Path(place, name)
    return json.loads(path.read_text()) if await_(path.exists, str(path)) else None


def token(victim: str) -> str:
    """What only the victim knows; for the test alone."""
    host = host_view(victim, json.loads(Path(victim, "facts.json").read_text()))
    return Path(f"/proc/{host['pid']}/cmdline").read_bytes().split(b"\0")[2].decode()


def main() -> None:
    wanted = json.loads(sys.argv[1])
    found = []
    victims = [victim for victim, _ in wanted["pairs"]]
    for victim in victims:
        assert await_(Path(victim, "facts.json").exists, f"{victim}/facts.json")
    tokens = {victim: token(victim) for victim in victims}
    for attacker in wanted["node"]:
        await_(partial(is_there, attacker), "an attacker")
        write(Path(attacker, "target.json"), {"facts": {}, "host": node_view(attacker)})
    for victim, attacker in wanted["pairs"]:
        set_on(victim, attacker)
    for victim, attacker in wanted["pairs"]:
        facts = json.loads(Path(victim, "facts.json").read_text())
        tried = told(attacker, "tried.json")
        Path(victim, "stop").touch()
        seen = told(victim, "seen.json")
        found.append({"token": tokens[victim], "facts": facts, "tried": tried, "seen": seen})
    found += [{"tried": told(attacker, "tried.json")} for attacker in wanted["node"]]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
