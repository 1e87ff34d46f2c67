#!/bin/sh
# Runs once as root inside the new root file system, after /proc was mounted and
# the files below guest/ were copied: guest_setup.sh PACKAGE...
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d     # start no daemon in here
chmod 755 /usr/sbin/policy-rc.d
apt-get -q update
apt-get -q install --yes --no-install-recommends "$@"
rm /usr/sbin/policy-rc.d

groupadd --gid 1100 physics
for account in alice:1001:physics bob:1002:physics carol:1003:; do
    name=${account%%:*} rest=${account#*:}
    useradd --uid "${rest%%:*}" --user-group --groups "${rest#*:}" \
        --create-home --shell /bin/bash "$name"
done

# Nothing that burns processor time under emulation or waits for a network.
systemctl enable pool-network.service
systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer fstrim.timer man-db.timer systemd-tmpfiles-clean.timer \
    systemd-networkd-wait-online.service systemd-networkd.service \
    systemd-pstore.service systemd-hwdb-update.service e2scrub_reap.service \
    netavark-dhcp-proxy.socket netavark-dhcp-proxy.service x11-common.service \
    getty.target getty@tty1.service serial-getty@ttyS0.service

sed -i 's/^hosts:.*/hosts: files/' /etc/nsswitch.conf      # after apt, which needs dns

condor_version > /root/condor_version
apt-get clean
rm -rf /var/lib/apt/lists/* /etc/resolv.conf /etc/machine-id
echo uninitialized > /etc/machine-id
