#!/usr/bin/python3 -ISE
"""Work of a known amount: work.py KIND AMOUNT. What is known of it is left in the file "known.new".

Amounts are seconds of CPU time, processes, MiB, or for the network MB.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import resource
import socket
import sys
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread

MIB, MB = 1 << 20, 1000 * 1000
THREADS = 64
SPIKE_SECONDS = 0.05
MADV_PAGEOUT = 21  # linux/mman.h
BLOCK = bytes(MIB)
# The peer at the other end of the cable, and what of a datagram is not data.
PEER, TCP_PORT, UDP_PORT = "198.51.100.2", 5001, 5002
DATAGRAM_BYTES, IP_AND_UDP_BYTES = 1400, 28
AT_ONCE = 32
TRIES = 100

Known = dict[str, float]


def used() -> float:
    """Seconds of CPU time of this process and of those that it waited for."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum([usage.ru_utime + usage.ru_stime for usage in both])


def burn_until(seconds: float) -> None:
    """Outside of the interpreter's lock, so that threads get all CPUs."""
    while used() < seconds:
        zlib.crc32(BLOCK)


def burn(seconds: float) -> Known:
    burn_until(seconds)
    return {}


def threads(seconds: float) -> Known:
    all_ = [Thread(target=burn_until, args=(seconds,)) for _ in range(THREADS)]
    for thread in all_:
        thread.start()
    for thread in all_:
        thread.join()
    return {}


def processes(count: float) -> Known:
    """A shell's, which are the quickest to make."""
    line = f"i=0; while [ $i -lt {count:.0f} ]; do (:); i=$((i + 1)); done"
    os.waitpid(os.posix_spawn("/bin/sh", ["sh", "-c", line], {}), 0)
    return {}


def daemon(seconds: float) -> Known:
    """One that leaves session and process tree by two forks; nobody of us waits for it."""
    answer, question = os.pipe()
    child = os.fork()
    if child:
        os.close(question)
        os.waitpid(child, 0)
        with open(answer) as pipe:
            return {"cpu": used() + float(pipe.read())}
    os.setsid()
    if os.fork() == 0:
        burn_until(seconds)
        os.write(question, str(used()).encode())
    os._exit(0)


def anonymous(mib: float) -> mmap.mmap:
    return mmap.mmap(-1, int(mib) * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def touch(mib: float) -> Known:
    with anonymous(mib) as area:
        for page in range(0, len(area), mmap.PAGESIZE):
            area[page] = 1
    return {"memory": mib * MIB}


def spike(mib: float) -> Known:
    """All at once, and gone again after 50 ms."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
    with mmap.mmap(-1, int(mib) * MIB, flags=flags):
        time.sleep(SPIKE_SECONDS)
    return {"memory": mib * MIB}


def shared(mib: float) -> Known:
    path = Path(f"/dev/shm/shared-{os.getpid()}")
    with path.open("wb") as file:
        for _ in range(int(mib)):
            file.write(BLOCK)
    path.unlink()
    return {"memory": mib * MIB}


def swap(mib: float) -> Known:
    """Out to the device and, when root has seen to it that nothing is left in memory, back."""
    with anonymous(mib) as area:
        for page in range(0, len(area), mmap.PAGESIZE):
            area[page] = 1
        for _ in range(TRIES):
            area.madvise(MADV_PAGEOUT)
            if swapped() == len(area):
                break
        out = swapped()
        Path("out").touch()
        while not Path("back").exists():
            time.sleep(0.1)
        for page in range(0, len(area), mmap.PAGESIZE):
            area[page]
        return {"swapped out": out, "swapped in": out - swapped()}


def swapped() -> int:
    """Bytes of this process that are in swap (proc(5), status)."""
    found = re.search(r"VmSwap:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def write(mib: float, flags: int = 0) -> int:
    """Make the file "data" and give its descriptor."""
    file = os.open("data", os.O_RDWR | os.O_CREAT | flags, 0o644)
    aligned = mmap.mmap(-1, MIB)
    for _ in range(int(mib)):
        os.write(file, aligned)
    return file


def cache(mib: float) -> Known:
    write(mib)
    return {"memory": mib * MIB, "logical write": mib * MIB}


def direct(mib: float) -> Known:
    os.fsync(write(mib, os.O_DIRECT))
    return {"written": mib * MIB, "logical write": mib * MIB}


def fsync(mib: float) -> Known:
    os.fsync(write(mib))
    return {"written": mib * MIB, "logical write": mib * MIB}


def read_direct(mib: float) -> Known:
    file = write(mib, os.O_DIRECT)
    os.lseek(file, 0, os.SEEK_SET)
    aligned = mmap.mmap(-1, MIB)
    while os.readv(file, [aligned]):
        pass
    return {"read": mib * MIB}


def read_buffered(mib: float) -> Known:
    """Through the page cache, out of which the file was thrown before."""
    file = write(mib)
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.lseek(file, 0, os.SEEK_SET)
    while os.read(file, MIB):
        pass
    return {"read": mib * MIB}


def tcp_out(mb: float) -> Known:
    with socket.create_connection((PEER, TCP_PORT)) as connection:
        connection.sendall(b"0\n" + bytes(int(mb) * MB))
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
    return {"sent": mb * MB}


def tcp_in(mb: float) -> Known:
    with socket.create_connection((PEER, TCP_PORT)) as connection:
        connection.sendall(b"%d\n" % (mb * MB))
        connection.shutdown(socket.SHUT_WR)
        drain(connection)
    return {"received": mb * MB}


def drain(connection: socket.socket) -> None:
    while connection.recv(MIB):
        pass


def udp_out(mb: float) -> Known:
    count = int(mb * MB) // DATAGRAM_BYTES
    datagram = bytes(DATAGRAM_BYTES)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        for _ in range(count):
            datagrams.sendto(datagram, (PEER, UDP_PORT + 1))
    return {"sent": count * (DATAGRAM_BYTES + IP_AND_UDP_BYTES)}


def udp_in(mb: float) -> Known:
    """In portions that no receive buffer is too small for; what is lost is asked for again."""
    received, wanted = 0, int(mb * MB) // DATAGRAM_BYTES
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(1)
        while received < wanted:
            datagrams.sendto(b"%d" % AT_ONCE, (PEER, UDP_PORT))
            with suppress(TimeoutError):
                for _ in range(AT_ONCE):
                    received += len(datagrams.recv(65536)) == DATAGRAM_BYTES
    return {"received": received * (DATAGRAM_BYTES + IP_AND_UDP_BYTES)}


def loopback(mb: float) -> Known:
    listener = socket.create_server(("127.0.0.1", 0))
    with socket.create_connection(listener.getsockname()) as connection:
        thread = Thread(target=lambda: drain(listener.accept()[0]))
        thread.start()
        connection.sendall(bytes(int(mb) * MB))
        connection.shutdown(socket.SHUT_WR)
        thread.join()
    return {"looped": mb * MB}


KINDS: tuple[Callable[[float], Known], ...] = (
    burn, threads, processes, daemon, touch, spike, shared, swap, cache, direct, fsync,
    read_direct, read_buffered, tcp_out, tcp_in, udp_out, udp_in, loopback,
)  # fmt: skip


def main() -> None:
    kinds = {kind.__name__: kind for kind in KINDS}
    known = kinds[sys.argv[1]](float(sys.argv[2]))
    Path("data").unlink(missing_ok=True)
    Path("known.new").write_text(json.dumps({"cpu": used(), **known}))
    os._exit(0)  # nothing is left to be done that would cost CPU time


if __name__ == "__main__":
    main()
