#!/bin/sh
# The first process of a container, in namespaces of its own but for the control group's:
# container_setup.sh DISK DIRECTORY GROUP. Makes the file systems and becomes systemd.
set -eu
disk=$1 directory=$2 group=$3
read -r pid _ </proc/self/stat                  # as the machine sees it: its /proc is still mounted
echo 0 >"$group/cgroup.procs"

# Without the journal: that belongs to the saved state of the virtual machine. Eight jobs of 1 GB
# are to find room; memory is what is written alone.
top=$directory/top
mkdir "$top"
mount -t tmpfs -o size=16g,mode=755 pool "$top"
mkdir "$top/lower" "$top/upper" "$top/work" "$top/own" "$top/root"
mount -t ext4 -o ro,noload,loop "$disk" "$top/lower"
mount -t overlay -o "lowerdir=$top/lower,upperdir=$top/upper,workdir=$top/work" pool "$top/root"
cd "$top/root"

# A pool that was never started. What jobs mount overlays on is no overlay itself.
rm -rf var/lib/condor/spool/* var/lib/condor/execute/* var/log/condor/*
for place in home tmp var/lib/condor var/tmp; do
    mkdir -p "$top/own/$place"
    cp -a "$place/." "$top/own/$place"
    mount --bind "$top/own/$place" "$place"
done

# Users' namespaces may mount proc only where there is one without anything over it: that is the
# one that systemd hides below its own /run. What is no namespace's own is not to be written.
mkdir run/proc
mount -t proc proc run/proc
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
for own in kernel/ns_last_pid net; do
    mount --bind "run/proc/sys/$own" "proc/sys/$own"
done
mount -t sysfs -o ro sysfs sys
mount -t bpf bpf sys/fs/bpf

mount -t tmpfs -o mode=755 dev dev
for device in full fuse null random tty urandom zero; do
    [ ! -e "/dev/$device" ] || cp -a "/dev/$device" dev
done
mkdir dev/net dev/pts dev/shm
[ ! -e /dev/net/tun ] || cp -a /dev/net/tun dev/net
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for stream in stdin:0 stdout:1 stderr:2; do
    ln -s "/proc/self/fd/${stream#*:}" "dev/${stream%:*}"
done

# The machine's devices, modules and settings are none of the container's.
for unit in modules-load sysctl udev-load-credentials udev-trigger udevd binfmt; do
    ln -sf /dev/null "etc/systemd/system/systemd-$unit.service"
done
chroot . ip link add eth0 type veth peer name cable
chroot . ip link set cable up

echo "$pid" >"$directory/pid.new"
mv "$directory/pid.new" "$directory/pid"
# The group of this process becomes the root of its namespace, where cgroup2 is mounted from.
exec unshare --cgroup sh -c '
    mount -t cgroup2 cgroup2 sys/fs/cgroup && pivot_root . mnt && exec chroot . sh -c "
        umount -l /mnt
        exec env -i container=ledge-pool PATH=/usr/sbin:/usr/bin /usr/lib/systemd/systemd"'
