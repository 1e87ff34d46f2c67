"""What the daemon proper gives up when it has started. The launcher, and so every job, keeps it.

Capabilities that stay, and why (capabilities(7)):

    CAP_DAC_OVERRIDE    control groups that the job's user owns; the log directory, which is
                        HTCondor's
    CAP_SYS_PTRACE      the namespaces of a process, by its links in /proc
    CAP_KILL, CAP_SETUID, CAP_SETGID    the process that evaluates the policy as nobody
"""

from __future__ import annotations

from ledge.kernel import seccomp, syscalls

_CAP_DAC_OVERRIDE = 1
_CAP_KILL = 5
_CAP_SETGID = 6
_CAP_SETUID = 7
_CAP_SYS_PTRACE = 19
_KEPT = (_CAP_DAC_OVERRIDE, _CAP_KILL, _CAP_SETGID, _CAP_SETUID, _CAP_SYS_PTRACE)

_FORBIDDEN = (
    "execve",
    "execveat",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "mount",
    "umount2",
    "pivot_root",
    "chroot",
    "setns",
    "unshare",
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "kexec_file_load",
    "reboot",
    "swapon",
    "swapoff",
    "perf_event_open",
    "open_by_handle_at",
    "add_key",
    "request_key",
    "keyctl",
    "userfaultfd",
    "settimeofday",
    "clock_settime",
    "sethostname",
    "open_tree",
    "move_mount",
    "fsopen",
    "mount_setattr",
)


def harden() -> bool:
    """Give up what is not needed; whether system calls are filtered too. Raises OSError."""
    kept = sum([1 << capability for capability in _KEPT])
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        last = int(file.read())
    for capability in range(last + 1):
        if not kept >> capability & 1:
            syscalls.prctl(syscalls.PR_CAPBSET_DROP, capability)
    syscalls.capset(kept, kept, 0)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    return seccomp.forbid(_FORBIDDEN)
