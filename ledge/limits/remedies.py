"""What an admin can do about a limit that cannot be set, chosen by what is really wrong here."""

from __future__ import annotations

from errno import EACCES, EBUSY, EINVAL, ENODEV, ENOENT, EOPNOTSUPP, EPERM, ERANGE, EROFS

from ledge.kernel.cgroup2 import Cgroup

PRESSURE = "CONFIG_PSI, and psi=1 on the kernel's command line, and a reboot"

# The kernel's option without which a file is missing from a group that has its controller.
_OPTIONS = {
    "memory.swap.max": "CONFIG_SWAP, and no swapaccount=0 at boot",
    "cpu.max": "CONFIG_CFS_BANDWIDTH",
    "io.max": "CONFIG_BLK_DEV_THROTTLING",
    "io.weight": "CONFIG_BLK_CGROUP_IOCOST",
    "io.bfq.weight": "CONFIG_BFQ_GROUP_IOSCHED",
    "cpu.pressure": PRESSURE,
}

_ASK_OTHERWISE = "the policy asks for a value that the kernel does not take"
_REMEDIES = {
    EACCES: "ledged must run as root, outside of containers",
    EPERM: "ledged must run as root, outside of containers",
    EROFS: "/sys/fs/cgroup must be writable for ledged: ProtectControlGroups=no in its unit",
    EINVAL: _ASK_OTHERWISE,
    ERANGE: _ASK_OTHERWISE,
    EBUSY: "Delegate=yes and DelegateSubgroup=leaf in condor.service keep daemons out of the way",
    ENODEV: "the job's group or its disk has gone",
    ENOENT: "the job's group has gone",
    EOPNOTSUPP: "this kernel or this disk cannot do it",
}


def why_absent(group: Cgroup, file: str) -> tuple[str, str]:
    """Problem and remedy for a file that a job's group has not, or will not have."""
    controller = file.partition(".")[0]
    controllers = group.read("cgroup.controllers")
    if controllers is None:
        return "the job's group has gone", ""
    if controller.encode("ascii") not in controllers.split():
        remedy = f"Delegate=yes in condor.service, and {controller} not mounted as version 1"
        return f"the {controller} controller is off in the job's group", remedy
    return f"this kernel has no {file}", _OPTIONS.get(file, "a newer kernel")


def remedy(error: OSError) -> str:
    """For an error while a control file was written."""
    return _REMEDIES.get(error.errno or 0, "the log of the kernel may say more")
