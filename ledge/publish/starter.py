"""Reporting through the starter, if it will have it: figures must not cost the job anything."""

from __future__ import annotations

from ledge.publish.chirp import ChirpError, Starter, publish

# HTCondor's default of CHIRP_DELAYED_UPDATE_PREFIX lets this pass (HTCondor manual, "Chirp"); what
# a job can read it can also forge, so this is reported, not proven.
REPORTED = "ChirpLedge"

# Every name that a report may have. Those that one does not have are made undefined where they are
# in the ad: an earlier run of the job has left them there, or the job itself has put them there.
NAMES = (
    "BlockDevices", "BlockDiscardBytes", "BlockDiscardOperations", "BlockReadBytes",
    "BlockReadBytesPerSecond", "BlockReadOperations", "BlockWriteBytes", "BlockWriteBytesPerSecond",
    "BlockWriteOperations", "CpuInUseCores", "CpuPeriodsCount", "CpuSystemSeconds",
    "CpuThrottledAnywhereSeconds", "CpuThrottledPeriodsCount", "CpuThrottledSeconds",
    "CpuUserSeconds", "Enforced", "ForksRefusedCount", "Incomplete", "Isolation", "IsolationReason",
    "LogicalReadBytes", "LogicalWriteBytes", "MemoryAndSwapPeakBytes", "MemoryAnonAtPeakBytes",
    "MemoryAnonBytes", "MemoryAnonShmemPeakBytes", "MemoryCurrentBytes", "MemoryFileAtPeakBytes",
    "MemoryFileBytes", "MemoryHighCount", "MemoryKernelAtPeakBytes", "MemoryKernelBytes",
    "MemoryMaxCount", "MemoryPeakBytes", "MemoryProcessPeakBytes", "MemoryPssPeakBytes",
    "MemoryRssPeakBytes", "MemoryShmemAtPeakBytes", "MemoryShmemBytes", "MemorySockAtPeakBytes",
    "MemorySockBytes", "Mounts", "Network", "NetworkAddress", "NetworkLocalReceivedBytes",
    "NetworkLocalReceivedPacketsCount", "NetworkLocalSentBytes", "NetworkLocalSentPacketsCount",
    "NetworkLoopbackReceivedBytes", "NetworkLoopbackReceivedPacketsCount",
    "NetworkLoopbackSentBytes", "NetworkLoopbackSentPacketsCount", "NetworkPorts", "NetworkReason",
    "NetworkReceivedBytes", "NetworkReceivedBytesPerSecond", "NetworkReceivedPacketsCount",
    "NetworkSentBytes", "NetworkSentBytesPerSecond", "NetworkSentPacketsCount", "NotEnforced",
    "OomCount", "OomGroupKillsCount", "OomKills", "OomLevel", "PageFaultsMajorCount",
    "PageFaultsMinorCount", "PressureCpuFullSeconds", "PressureCpuSomeSeconds",
    "PressureIoFullSeconds", "PressureIoSomeSeconds", "PressureMemoryFullSeconds",
    "PressureMemorySomeSeconds", "ProcessesCount", "ProcessesPeak", "RefaultsAnonCount",
    "RefaultsFileCount", "Sampled", "ScratchFileSystem", "ScratchWritesCounted", "StorageReadBytes",
    "StorageWriteBytes", "SuggestedRequestMemoryMiB", "SwapCurrentBytes", "SwapInBytes",
    "SwapOutBytes", "SwapPeakBytes", "Tracking", "Unmeasured", "Version", "ZswapInBytes",
    "ZswapOutBytes",
)  # fmt: skip
# To be without these says something, so that it is always said: of what a job has set by chirp, the
# starter knows nothing any more once it has told the shadow.
_TELLING = ("BlockDevices", "Incomplete", "IsolationReason", "OomLevel", "Sampled", "Unmeasured")


def report_expressions(chirp_config: bytes | None, expressions: dict[str, str]) -> None:
    """Report attributes, ClassAd expressions by names without the prefix, and no others.

    `chirp_config` are the contents of .chirp.config, None where there is none.
    """
    if chirp_config is None:
        return
    try:
        expressions = {**dict.fromkeys(_TELLING, "undefined"), **expressions}
        prefixed = {REPORTED + name: value for name, value in expressions.items()}
        others = tuple([REPORTED + name for name in NAMES if name not in expressions])
        publish(Starter(chirp_config), prefixed, others=others)
    except ChirpError:
        pass  # the figures stay undefined, which is what they are
