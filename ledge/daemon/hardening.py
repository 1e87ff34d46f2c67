"""What the daemon proper gives up when it has started. The launcher, and so every job, keeps it.

Capabilities that stay, and why (capabilities(7)):

    CAP_DAC_OVERRIDE    control groups that the job's user owns; the log directory, which is
                        HTCondor's
    CAP_SYS_PTRACE      the namespaces of a process, by its links in /proc
    CAP_KILL, CAP_SETUID, CAP_SETGID    the process that evaluates the policy as nobody
    CAP_NET_ADMIN       if network traffic is counted: attaching the program to a job's slice
    CAP_BPF             likewise before Linux 5.19: reading the counters
"""

from __future__ import annotations

import os

from ledge.kernel import seccomp, syscalls

_CAP_DAC_OVERRIDE = 1
_CAP_KILL = 5
_CAP_SETGID = 6
_CAP_SETUID = 7
_CAP_NET_ADMIN = 12
_CAP_SYS_PTRACE = 19
_CAP_BPF = 39
_KEPT = (_CAP_DAC_OVERRIDE, _CAP_KILL, _CAP_SETGID, _CAP_SETUID, _CAP_SYS_PTRACE)

# Numbers on x86_64 and aarch64 (asm/unistd.h).
_FORBIDDEN = {
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "setns": (308, 268),
    "unshare": (272, 97),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "perf_event_open": (298, 241),
    "open_by_handle_at": (304, 265),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "userfaultfd": (323, 282),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "sethostname": (170, 161),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "mount_setattr": (442, 442),
}


def harden(counts_traffic: bool) -> bool:
    """Give up what is not needed; whether system calls are filtered too. Raises OSError."""
    needed = [*_KEPT]
    if counts_traffic:
        needed += [_CAP_NET_ADMIN] if _kernel() >= (5, 19) else [_CAP_NET_ADMIN, _CAP_BPF]
    kept = sum([1 << capability for capability in needed])
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        last = int(file.read())
    for capability in range(last + 1):
        if not kept >> capability & 1:
            syscalls.prctl(syscalls.PR_CAPBSET_DROP, capability)
    syscalls.capset(kept, kept, 0)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    return seccomp.forbid(_FORBIDDEN.values())


def _kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int(minor)
