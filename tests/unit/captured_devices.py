"""What real kernels' /sys and /proc say of CPUs and disks; a tree is text by path below it.

Captured on Linux 7.2 in the virtual machine of the pool, unless a name says otherwise.
"""

from __future__ import annotations

from pathlib import Path

ONE_NODE = {
    "devices/system/cpu/online": "0-1\n",
    "devices/system/cpu/isolated": "\n",
    "devices/system/cpu/cpu0/topology/thread_siblings_list": "0\n",
    "devices/system/cpu/cpu1/topology/thread_siblings_list": "1\n",
    "devices/system/node/online": "0\n",
    "devices/system/node/node0/cpulist": "0-1\n",
    "devices/system/node/node0/meminfo": """\
Node 0 MemTotal:        4011868 kB
Node 0 MemFree:         3619000 kB
""",
}

_TWO_NODES_MEMINFO = """\

Node {node} MemTotal:       65823360 kB
Node {node} MemFree:        51200104 kB
"""

# A board with two processors of four cores, two hyper-threads each, as Linux numbers them.
TWO_NODES = {
    "devices/system/cpu/online": "0-15\n",
    "devices/system/cpu/isolated": "\n",
    "devices/system/node/online": "0-1\n",
    "devices/system/node/node0/cpulist": "0-3,8-11\n",
    "devices/system/node/node1/cpulist": "4-7,12-15\n",
    "devices/system/node/node0/meminfo": _TWO_NODES_MEMINFO.format(node=0),
    "devices/system/node/node1/meminfo": _TWO_NODES_MEMINFO.format(node=1),
    **{
        f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": f"{cpu % 8},{cpu % 8 + 8}\n"
        for cpu in range(16)
    },
}

# A disk with two partitions, a loop device with one, and LVM over the second partition and a
# second disk. /sys/dev/block has links into /sys/devices: DISK_LINKS.
DISKS = {
    "devices/pci0/virtio2/block/vda/dev": "254:0\n",
    "devices/pci0/virtio2/block/vda/queue/scheduler": "[none] mq-deadline bfq \n",
    "devices/pci0/virtio2/block/vda/vda1/dev": "254:1\n",
    "devices/pci0/virtio2/block/vda/vda1/partition": "1\n",
    "devices/pci0/virtio2/block/vda/vda2/dev": "254:2\n",
    "devices/pci0/virtio2/block/vda/vda2/partition": "2\n",
    "devices/virtual/block/loop0/dev": "7:0\n",
    "devices/virtual/block/loop0/queue/scheduler": "none [bfq]\n",
    "devices/virtual/block/loop0/loop0p1/dev": "259:0\n",
    "devices/virtual/block/loop0/loop0p1/partition": "1\n",
    "devices/virtual/block/dm-0/dev": "253:0\n",
    "devices/virtual/block/dm-0/dm/name": "lv0\n",
    "devices/virtual/block/dm-1/dev": "253:1\n",
    "devices/pci0/cciss/block/cciss!c0d0/dev": "104:0\n",
}
DISK_LINKS = {
    "dev/block/254:0": "devices/pci0/virtio2/block/vda",
    "dev/block/254:1": "devices/pci0/virtio2/block/vda/vda1",
    "dev/block/254:2": "devices/pci0/virtio2/block/vda/vda2",
    "dev/block/7:0": "devices/virtual/block/loop0",
    "dev/block/259:0": "devices/virtual/block/loop0/loop0p1",
    "dev/block/253:0": "devices/virtual/block/dm-0",
    "dev/block/253:1": "devices/virtual/block/dm-1",
    "dev/block/104:0": "devices/pci0/cciss/block/cciss!c0d0",
    "devices/virtual/block/dm-0/slaves/loop0": "devices/virtual/block/loop0",
    "devices/virtual/block/dm-0/slaves/vda2": "devices/pci0/virtio2/block/vda/vda2",
    "devices/virtual/block/dm-1/slaves/dm-0": "devices/virtual/block/dm-0",
}

IO_COST_QOS = b"""\
254:0 enable=1 ctrl=auto rpct=0.00 rlat=250000 wpct=0.00 wlat=250000 min=1.00 max=10000.00
8:0 enable=0 ctrl=auto rpct=0.00 rlat=250000 wpct=0.00 wlat=250000 min=1.00 max=10000.00
"""

FDINFO = b"pos:\t0\nflags:\t02300000\nmnt_id:\t31\nino:\t15576\n"

# btrfs: the device of a directory is its subvolume's own, and not the one here.
MOUNTINFO_BTRFS = b"""\
30 2 0:28 /root / rw,relatime shared:1 - btrfs /dev/sda2 rw,subvol=/root
31 30 0:28 /condor /var/lib/condor rw,relatime shared:9 - btrfs /dev/sda2 rw,subvol=/condor
"""


def plant(root: Path, *trees: dict[str, str]) -> Path:
    """Make the files below `root`."""
    for tree in trees:
        for name, text in tree.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    return root


def plant_links(root: Path, links: dict[str, str]) -> Path:
    """Make the symbolic links below `root`."""
    for name, target in links.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(root / target)
    return root
