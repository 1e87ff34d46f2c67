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

CPU_STAT_OF_A_LIMITED_SLICE = b"""\
usage_usec 2143125
user_usec 2094772
system_usec 48353
nice_usec 0
nr_periods 57
nr_throttled 41
throttled_usec 3520174
nr_bursts 0
burst_usec 0
"""

# A group whose cpu controller is off: no limit, and nothing to be throttled by.
CPU_STAT_WITHOUT_CONTROLLER = b"""\
usage_usec 63749535
user_usec 38557845
system_usec 25191690
nice_usec 0
"""

CPU_STAT_LOCAL = b"throttled_usec 3498211\n"

# A job that had swapped to memory (zswap) and to a device, and has a bit of everything.
MEMORY_STAT = b"""\
anon 19009536
file 18608128
kernel 3272704
kernel_stack 311296
pagetables 1146880
sec_pagetables 0
percpu 9152
sock 2641920
vmalloc 0
shmem 1830912
zswap 1182071
zswapped 5042176
zswap_incomp 0
file_mapped 0
file_dirty 0
file_writeback 0
swapcached 1736704
anon_thp 12582912
file_thp 16777216
shmem_thp 0
inactive_anon 8192
active_anon 21331968
inactive_file 16781312
active_file 0
unevictable 0
slab_reclaimable 51280
slab_unreclaimable 561912
slab 613192
hugetlb 0
workingset_refault_anon 34620
workingset_refault_file 32768
workingset_activate_anon 1017
workingset_activate_file 0
workingset_restore_anon 1021
workingset_restore_file 0
workingset_nodereclaim 1
pgdemote_kswapd 0
pgdemote_direct 0
pgdemote_khugepaged 0
pgdemote_proactive 0
pgsteal_kswapd 0
pgsteal_direct 93714
pgsteal_khugepaged 0
pgsteal_proactive 0
pgscan_kswapd 0
pgscan_direct 873538
pgscan_khugepaged 0
pgscan_proactive 0
pgrefill 65518
pgpromote_success 0
pgscan 873538
pgsteal 93714
pswpin 15149
pswpout 20338
pgfault 39211
pgmajfault 4946
pgactivate 22325
pgdeactivate 0
pglazyfree 0
pglazyfreed 0
swpin_zero 39
swpout_zero 92
zswpin 19432
zswpout 28362
zswpwb 0
thp_fault_alloc 72
thp_collapse_alloc 23
thp_swpout 0
thp_swpout_fallback 72
numa_pages_migrated 0
numa_pte_updates 0
numa_hint_faults 0
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

# A slice with a job that was killed as a whole (memory.oom.group), and the job's own group below it.
MEMORY_EVENTS_OF_A_KILLED_SLICE = b"""\
low 0
high 502
max 21
oom 1
oom_kill 22
oom_group_kill 1
sock_throttled 0
"""
MEMORY_EVENTS_LOCAL_OF_A_KILLED_SLICE = b"""\
low 0
high 502
max 21
oom 1
oom_kill 0
oom_group_kill 1
sock_throttled 0
"""
MEMORY_EVENTS_OF_A_KILLED_JOB = b"""\
low 0
high 0
max 0
oom 0
oom_kill 22
oom_group_kill 0
sock_throttled 0
"""

MEMORY_EVENTS_UNTIL_5_16 = b"low 0\nhigh 2\nmax 7\noom 1\noom_kill 1\n"
PIDS_EVENTS = b"max 3\n"

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

# Linux 6.18, a group of version 1 with others below it.
MEMORY_STAT_V1 = b"""\
cache 9711616
rss 15212544
rss_huge 0
shmem 9068544
mapped_file 7671808
dirty 8192
writeback 0
workingset_refault_anon 0
workingset_refault_file 3291
swap 0
swapcached 0
pgpgin 166487
pgpgout 160402
pgfault 214828
pgmajfault 0
inactive_anon 0
active_anon 1531904
inactive_file 8192
active_file 634880
unevictable 22749184
hierarchical_memory_limit 9223372036854771712
hierarchical_memsw_limit 9223372036854771712
total_cache 1249206272
total_rss 1871773696
total_rss_huge 1499463680
total_shmem 9072640
total_mapped_file 56045568
total_dirty 7962624
total_writeback 0
total_workingset_refault_anon 0
total_workingset_refault_file 3069958
total_swap 0
total_swapcached 0
total_pgpgin 393143342
total_pgpgout 392782463
total_pgfault 547571188
total_pgmajfault 23177
total_inactive_anon 1856253952
total_active_anon 1630208
total_inactive_file 460681216
total_active_file 779452416
total_unevictable 22749184
"""
