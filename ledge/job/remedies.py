"""What an admin can do about a step that failed, chosen by what is really wrong here."""

from __future__ import annotations

import os
from errno import EACCES, EBUSY, EINVAL, ELOOP, ENODEV, ENOENT, ENOSPC, ENOSYS, EPERM

_SYSCTLS = (
    # file, the value that forbids, the remedy
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "sysctl kernel.unprivileged_userns_clone=1 lets users make user namespaces",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor forbids it: sysctl kernel.apparmor_restrict_unprivileged_userns=0, or a "
        "profile with 'userns,' for the wrapper",
    ),
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "sysctl user.max_user_namespaces=15000 lets users make user namespaces",
    ),
)
_OVERLAY = {
    EBUSY: "other mounts are below it, and an overlay would show what they hide",
    EINVAL: "the file system of the job's scratch directory must be able to hold what is changed in"
    " an overlay: NFS and overlays cannot",
    ENODEV: "the kernel has no overlay file system: modprobe overlay",
}


def remedy(step: str, errno: int) -> str:
    """One sentence for the step (as Operation.describe() words it) and the errno it failed with."""
    if errno in (EPERM, EACCES, ENOSPC):
        for path, forbidding, text in _SYSCTLS:
            if _value(path) == forbidding:
                return text
    if step == "mount a fresh /proc" and errno == EPERM:
        return (
            "parts of /proc are covered (in a container, or by ProtectKernelTunables= or "
            "ProcSubset= of condor.service) and the kernel then refuses a fresh one"
        )
    if step.startswith("create the namespaces user") and errno == EPERM:
        return (
            "a system call filter forbids it (of a container, or SystemCallFilter= or "
            "RestrictNamespaces= of condor.service), or a chroot"
        )
    if step == "give the job a network of its own":
        return "only ledged can: LEDGE_DAEMON = True in HTCondor's configuration"
    target, _, scratch = step.partition(" in its scratch directory ")
    spoilt = scratch and errno != ELOOP and os.path.isdir(target.rpartition(" ")[2])
    if spoilt or "the job's scratch directory" in step:
        return "the job's scratch directory must be there and its user's"
    if errno == ENOENT and step.startswith(("mount ", "give the job its own ")):
        return "make the directory on the node, or take the mount out of the plan"
    if step.startswith("mount an overlay over ") and errno in _OVERLAY:
        return _OVERLAY[errno]
    if errno == ELOOP:
        return "a symbolic link is in the way: name the directory itself in the plan"
    if errno in (ENOSYS, EINVAL) and "namespace" in step:
        return "the kernel was built without it, or a system call filter hides it"
    return "on_failure: run in the plan lets jobs run without it"


def _value(path: str) -> str | None:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None
