"""Run in the guest: of what is written to a file system and goes to disk later, what io.stat has.

For each directory named, a process in a control group of its own writes a file and ends; the disk
gets it by another's sync(2). Prints the bytes by directory, as JSON.
"""

import json
import os
import subprocess
import sys

GROUP = "/sys/fs/cgroup/ledge-written-later"
BYTES = 16 << 20
WRITE = "import os, sys; open(sys.argv[1], 'wb').write(os.urandom(int(sys.argv[2])))"


def join() -> None:
    with open(f"{GROUP}/cgroup.procs", "w", encoding="ascii") as file:
        file.write("0")


def written_bytes() -> int:
    with open(f"{GROUP}/io.stat", encoding="ascii") as file:
        return sum([int(word[7:]) for word in file.read().split() if word.startswith("wbytes=")])


def measure(directory: str) -> int:
    os.mkdir(GROUP)
    command = [sys.executable, "-c", WRITE, f"{directory}/file", str(BYTES)]
    subprocess.run(command, check=True, preexec_fn=join)
    os.sync()
    found = written_bytes()
    os.rmdir(GROUP)
    return found


print(json.dumps({directory: measure(directory) for directory in sys.argv[1:]}))
