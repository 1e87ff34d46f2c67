"""Works of a known amount, and which figure of each is compared: known, kernel, ad, HTCondor's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ledge.publish.record import EXACT, READING

MIB = 1 << 20
PAGE_BYTES = 4096

Files = Mapping[str, str]
Ad = Mapping[str, Any]


class Figure(NamedTuple):
    """One resource: attributes whose sum it is, what the kernel has, what HTCondor says itself.

    `known` is its name in what a work knows of itself, which may be nothing. What may come between
    root's look and the end of the job is `later`, and a share of the whole.
    """

    known: str | None
    attributes: tuple[str, ...]
    kernel: Callable[[Files], float] | None
    condor: Callable[[Ad], float | None]
    later: float = 0.0
    later_share: float = 0.0

    def ledge(self, ad: Ad) -> float:
        """From the attribute that no job can forge, else from the wrapper's report.

        The former can be of an earlier reading (docs/recording.md); what the job's init tells is
        in the latter alone.
        """
        record = ad.get("LedgeUsage", {})
        reported = {name: ad.get(f"ChirpLedge{name}") for name in self.attributes}
        found: Ad = {**reported, **record} if record.get(READING) == EXACT else reported
        return sum([found[name] for name in self.attributes], 0.0)


class Work(NamedTuple):
    """A kind of truth/work.py, how much of it every day and in full, and the memory it takes.

    `memory` is in MiB for a unit of the amount; `figures` are those that are looked at.
    """

    kind: str
    title: str
    everyday: float
    full: float
    figures: tuple[Figure, ...]
    memory: float = 0.0


def flat(file: str, key: str, unit: float = 1) -> Callable[[Files], float]:
    """The value of a key of a control file."""

    def read(files: Files) -> float:
        found = dict(line.split() for line in files[file].splitlines())
        return int(found[key]) * unit

    return read


def single(file: str) -> Callable[[Files], float]:
    return lambda files: float(files[file])


def io(key: str) -> Callable[[Files], float]:
    """A key of io.stat, of all devices together."""

    def read(files: Files) -> float:
        words = files["io.stat"].split()
        return sum(int(word.partition("=")[2]) for word in words if word.startswith(key + "="))

    return read


def no_word(ad: Ad) -> float | None:
    """HTCondor has no attribute for it."""
    return None


def cpu_of_condor(ad: Ad) -> float | None:
    return float(ad["RemoteUserCpu"] + ad["RemoteSysCpu"])


def kibibytes(*names: str) -> Callable[[Ad], float | None]:
    """The first of the attributes that is there, in bytes."""
    return lambda ad: next((float(ad[name]) * 1024 for name in names if name in ad), None)


# Between root's last look and the very end, under emulation.
LAST_LOOK_SECONDS = 0.01
CPU = Figure(
    "cpu", ("CpuUserSeconds", "CpuSystemSeconds"), flat("cpu.stat", "usage_usec", 1e-6),
    cpu_of_condor, later=LAST_LOOK_SECONDS, later_share=0.005,
)  # fmt: skip
MEMORY = Figure(
    "memory", ("MemoryPeakBytes",), single("memory.peak"),
    kibibytes("ResidentSetSize_RAW", "ResidentSetSize"),
)  # fmt: skip
SWAPPED_OUT = Figure(
    "swapped out", ("SwapOutBytes",), flat("memory.stat", "pswpout", PAGE_BYTES), no_word
)
SWAPPED_IN = Figure(
    "swapped in", ("SwapInBytes",), flat("memory.stat", "pswpin", PAGE_BYTES), no_word
)
SWAP_PEAK = Figure("swapped out", ("SwapPeakBytes",), single("memory.swap.peak"), no_word)
# Small files of the work itself, which the kernel may write before or after root has looked.
SMALL_FILES_BYTES = 1 << 16
WRITTEN = Figure(
    "written", ("BlockWriteBytes",), io("wbytes"), kibibytes("BlockWriteKbytes"),
    later=SMALL_FILES_BYTES,
)  # fmt: skip
WRITTEN_BACK = WRITTEN._replace(known=None)
READ = Figure("read", ("BlockReadBytes",), io("rbytes"), kibibytes("BlockReadKbytes"))
LOGICALLY_WRITTEN = Figure("logical write", ("LogicalWriteBytes",), None, no_word)
SENT = Figure("sent", ("NetworkSentBytes",), None, no_word)
RECEIVED = Figure("received", ("NetworkReceivedBytes",), None, no_word)
LOOPED_OUT = Figure("looped", ("NetworkLoopbackSentBytes",), None, no_word)
LOOPED_IN = Figure("looped", ("NetworkLoopbackReceivedBytes",), None, no_word)

# By group; a title has the amount in the place of %g.
WORKS: dict[str, tuple[Work, ...]] = {
    "memory": (
        Work("touch", "%g MiB, touched", 10, 10, (MEMORY,), 1),
        Work("touch", "%g MiB, touched", 256, 1024, (MEMORY,), 1),
        Work("spike", "%g MiB for 50 ms", 256, 800, (MEMORY,), 1),
        Work("cache", "%g MiB of page cache alone", 64, 256, (MEMORY,), 1),
        Work("shared", "%g MiB of shared memory", 64, 256, (MEMORY,), 1),
        Work("swap", "%g MiB to swap and back", 32, 256,
             (SWAPPED_OUT, SWAPPED_IN, SWAP_PEAK), 1),
    ),
    "io": (
        Work("direct", "%g MiB written, direct", 64, 256, (WRITTEN, LOGICALLY_WRITTEN), 1),
        Work("fsync", "%g MiB written, fsync", 64, 256, (WRITTEN, LOGICALLY_WRITTEN), 1),
        Work("cache", "%g MiB written, buffered", 64, 256, (LOGICALLY_WRITTEN, WRITTEN_BACK), 1),
        Work("read_direct", "%g MiB read, direct", 32, 256, (READ,), 1),
        Work("read_buffered", "%g MiB read, buffered", 32, 256, (READ,), 1),
    ),
    "network": (
        Work("tcp_out", "%g MB sent, TCP", 10, 100, (SENT,), 1),
        Work("tcp_in", "%g MB received, TCP", 10, 100, (RECEIVED,)),
        Work("udp_out", "%g MB sent, UDP", 4, 100, (SENT,)),
        Work("udp_in", "%g MB received, UDP", 4, 100, (RECEIVED,)),
        Work("loopback", "%g MB over loopback, TCP", 10, 100, (LOOPED_OUT, LOOPED_IN), 1),
    ),
    "cpu": (
        Work("burn", "%g s in one process", 0.5, 0.5, (CPU,)),
        Work("burn", "%g s in one process", 3, 5, (CPU,)),
        Work("daemon", "%g s in a daemon that forked twice", 1, 10, (CPU,)),
        Work("threads", "%g s in 64 threads", 3, 20, (CPU,)),
    ),
    "long cpu": (
        Work("processes", "%g short processes", 300, 10_000, (CPU,)),
        Work("burn", "%g s in one process", 2, 60, (CPU,)),
    ),
}  # fmt: skip
