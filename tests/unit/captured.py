"""Text of real kernels' control files: Linux 7.2 with systemd 262 unless a name says otherwise."""

from __future__ import annotations

CPU_STAT = b"""\
usage_usec 63749535
user_usec 38557845
system_usec 25191690
nice_usec 0
nr_periods 0
nr_throttled 0
throttled_usec 0
nr_bursts 0
burst_usec 0
"""

CPU_PRESSURE = b"""\
some avg10=0.24 avg60=0.51 avg300=1.15 total=12305816
full avg10=0.00 avg60=0.11 avg300=0.54 total=7144294
"""

# The root group, before Linux 5.13: no line "full".
CPU_PRESSURE_SOME_ALONE = b"some avg10=0.25 avg60=0.16 avg300=0.92 total=28025744\n"

IO_PRESSURE = b"""\
some avg10=0.00 avg60=0.00 avg300=0.00 total=383818
full avg10=0.00 avg60=0.00 avg300=0.00 total=363739
"""

MEMORY_PRESSURE = b"""\
some avg10=0.00 avg60=0.00 avg300=0.00 total=0
full avg10=0.00 avg60=0.00 avg300=0.00 total=0
"""

MEMORY_PEAK = b"80109568\n"
SWAP_PEAK = b"0\n"
PIDS_PEAK = b"14\n"

MEMORY_EVENTS = b"""\
low 0
high 0
max 0
oom 0
oom_kill 0
oom_group_kill 0
sock_throttled 0
"""

CGROUP_EVENTS = b"populated 1\nfrozen 0\n"

IO_STAT = b"254:0 rbytes=49479680 wbytes=3084288 rios=1199 wios=620 dbytes=0 dios=0\n"

# The example of cgroup-v2.rst, with what io.cost and io.latency add (blk-iocost.c,
# blk-iolatency.c), a device without I/O, and device-mapper (253:0) above a disk (8:0).
IO_STAT_OF_MANY_DEVICES = b"""\
8:0 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0 cost.vrate=100.00 cost.usage=42
8:16 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 dbytes=50331648 dios=3021 use_delay=0 delay_nsec=0 depth=max avg_lat=14 win=5
253:0 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0
7:0 
"""

PROC_SELF_CGROUP = b"0::/system.slice/condor.service/htcondor/slot1_1.slice/slot1_1.scope\n"

# systemd's hybrid layout: the controllers in version 1, a bare version 2 beside them.
PROC_SELF_CGROUP_HYBRID = b"""\
9:name=systemd:/user.slice
8:pids:/user.slice/user-1000.slice
4:memory:/user.slice
2:cpu,cpuacct:/user.slice
0::/user.slice/user-1000.slice/session-2.scope
"""

PROC_SELF_CGROUP_V1 = b"""\
11:freezer:/
4:memory:/docker/0::/misleading
1:name=systemd:/
"""

MOUNTINFO = b"""\
26 31 0:23 / /sys rw,nosuid,nodev,noexec,relatime shared:6 - sysfs sysfs rw
27 31 0:24 / /proc rw,nosuid,nodev,noexec,relatime shared:11 - proc proc rw
28 31 0:7 / /dev rw,nosuid,relatime shared:2 - devtmpfs udev rw,size=1995516k,nr_inodes=498879,mode=755,inode64
31 2 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
33 28 0:27 / /dev/shm rw,nosuid,nodev shared:4 - tmpfs tmpfs rw,inode64
34 26 0:28 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:8 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot,memory_hugetlb_accounting
47 31 0:37 / /tmp rw,nosuid,nodev shared:21 - tmpfs tmpfs rw,size=2005940k,nr_inodes=1048576,inode64
"""

# Linux 6.18, every controller of version 1 mounted apart.
MOUNTINFO_HYBRID = b"""\
21 17 0:19 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
22 21 0:20 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
26 21 0:24 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
31 21 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""

MOUNTINFO_V1 = b"""\
21 17 0:19 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
26 21 0:24 / /sys/fs/cgroup/cgroup2 rw,relatime - cgroup cgroup rw,memory
"""

# proc(5): a blank in a path is written \040, a backslash \134; no optional field, or two.
MOUNTINFO_ODD_PLACE = b"""\
40 1 0:50 / /mnt/a\\040-\\040b rw - ext4 /dev/cgroup2 rw
41 1 0:51 / /mnt/control\\040groups\\134v2 rw shared:1 master:2 - cgroup2 none rw
"""
