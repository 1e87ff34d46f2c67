"""Programs that people run in jobs: a table, with what each needs and what its output must show.

tests/pool/test_programs.py submits all of them; tests/kernel/test_programs.py has those for which
tests/run installs enough. A script has a directory of its own; its standard error is to be empty.
"""

from __future__ import annotations

from typing import NamedTuple


class Program(NamedTuple):
    """A script of sh, the Debian packages that it needs beside those of every node, its output.

    `output` is a pattern of all of it. Where two nodes or kernels may differ in it, `compared` says
    that it must be the same without condor-ledge.
    """

    name: str
    script: str
    output: str
    packages: tuple[str, ...] = ()
    compared: bool = False


# Packages that tests/run installs, and what the tests call the need for them.
NATIVE = {"bubblewrap": "bwrap", "strace": "strace"}
# Made by the tests with the numbers of /dev/null: a device that is not in a bare /dev.
DEVICE = "/dev/ledge-test-card"

MULTIPROCESSING = """
cat >work.py <<'END'
import multiprocessing, multiprocessing.shared_memory
if __name__ == "__main__":
    memory = multiprocessing.shared_memory.SharedMemory(create=True, size=10)
    with multiprocessing.Manager() as manager, multiprocessing.Pool(2) as pool:
        numbers = manager.list(pool.map(abs, [-1, -2]))
        memory.buf[0] = sum(numbers)
        print(memory.buf[0])
    memory.close()
    memory.unlink()
END
python3 -ISE work.py
"""

# Threads of BLAS; an array that two processes share by a file in /dev/shm.
NUMPY = """
cat >work.py <<'END'
import os
import numpy
a = numpy.arange(250000.0).reshape(500, 500) / 250000
print(round(float(numpy.trace(a @ numpy.linalg.inv(a + numpy.eye(500)))), 6) > 0)
shared = numpy.memmap("/dev/shm/array", dtype="i8", mode="w+", shape=1000)
if os.fork() == 0:
    numpy.memmap("/dev/shm/array", dtype="i8", mode="r+", shape=1000)[:] = 7
    os._exit(0)
os.wait()
print(shared.sum())
END
python3 work.py
"""

# By ctypes, so that no compiler is needed: the constants are those of MPICH's mpi.h. UCX is left
# shared memory and cross-memory attach (process_vm_readv) alone, the latter for large messages.
MPICH = """
cat >work.py <<'END'
import ctypes
mpi = ctypes.CDLL("libmpich.so.12")
WORLD, DOUBLE, SUM = 0x44000000, 0x4C00080B, 0x58000003
def number(function, *arguments):
    found = ctypes.c_int()
    assert function(*arguments, ctypes.byref(found)) == 0
    return found.value
assert mpi.MPI_Init(None, None) == 0
rank = number(mpi.MPI_Comm_rank, WORLD)
mine, ours = [(ctypes.c_double * (1 << 18))() for _ in range(2)]
mine[-1] = rank + 1
assert mpi.MPI_Allreduce(mine, ours, len(mine), DOUBLE, SUM, WORLD) == 0
if rank == 0:
    print(number(mpi.MPI_Comm_size, WORLD), ours[-1])
mpi.MPI_Finalize()
END
UCX_TLS=self,posix,cma UCX_VFS_ENABLE=n mpiexec -n 2 python3 work.py
"""

# A JVM takes a quarter of the memory that it thinks it has.
JAVA = """
java -XX:+PrintFlagsFinal -version 2>/dev/null |
    sed -n 's/.* MaxHeapSize *= \\([0-9]*\\).*/heap \\1/p'
keytool -genkeypair -alias key -keyalg EC -dname CN=job -keystore keys -storepass secret 2>/dev/null
keytool -list -keystore keys -storepass secret | grep -o PrivateKeyEntry
"""

# As conda does: one tree of packages, environments of hard links to it, scripts that are found
# from anywhere. Links do not cross to /tmp, so files are copied there.
HARD_LINKS = """
mkdir -p packages/tool/bin
cp /bin/echo packages/tool/bin/tool
cat >packages/tool/bin/script <<'END'
#!/bin/sh
exec "${0%/*}/tool" "$@"
END
chmod 755 packages/tool/bin/script
cp -al packages/tool environment
stat -c %h environment/bin/tool
rm -r packages
environment/bin/script linked
ln environment/bin/tool /tmp/tool 2>/dev/null || cp environment/bin/tool /tmp/tool
/tmp/tool in /tmp
mv /tmp/tool moved && ./moved moved
python3 -m venv --without-pip own && own/bin/python -c 'import sys; print(sys.prefix[-4:])'
"""

JOB_CONTROL = """
cat >commands <<'END'
sleep 1000 &
kill %1
wait %1 2>/dev/null; echo "ended $?"
sh -c 'kill -STOP $$; echo continued'
jobs
fg
tty
exit 3
END
script -qec 'bash --norc --noprofile -i' typescript <commands >/dev/null
echo $?
tr -d '\\r' <typescript | grep -aE '^(ended|\\[1\\]\\+  Stopped|continued|/dev/pts)' | uniq
"""

SUDO = "sudo -n true 2>&1 | tail -n 1\n"

# The job's own server, as condor_ssh_to_job starts one.
SSH = """
umask 077
for name in host user; do ssh-keygen -q -t ed25519 -N '' -f $name; done
cat >config <<END
HostKey $PWD/host
AuthorizedKeysFile $PWD/user.pub
StrictModes no
UsePAM no
PidFile $PWD/pid
Subsystem sftp internal-sftp
END
for port in 2201 2202 2203 2204; do
    /usr/sbin/sshd -f "$PWD/config" -E "$PWD/log" -o ListenAddress=127.0.0.1:$port && break
done
until [ -s pid ]; do sleep 0.1; done
options="-q -F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -i user"
ssh $options -p $port 127.0.0.1 'echo inside; exit 7'
echo $?
ssh -tt $options -p $port 127.0.0.1 tty | tr -d '\\r'
echo copied >file
scp $options -P $port file 127.0.0.1:"$PWD/copy" && cat copy
kill "$(cat pid)"
"""

GDB = """
sleep 1000 &
gdb -nx -batch -ex 'info inferiors' -ex detach -p $! 2>/dev/null | grep -c '/sleep *$'
kill $!
gdb -nx -batch -ex starti -ex 'info proc' -ex kill --args /bin/echo 2>/dev/null |
    sed -n "s/^exe = '.*\\(echo\\)'/\\1/p"
"""

STRACE = """
strace -f -qq -e trace=execve -o trace sh -c '/bin/true; /bin/true'
grep -c '"/bin/true"' trace
while :; do sleep 0.05; done &
traced=$!
strace -qq -p $traced -o attached &
until [ -s attached ]; do sleep 0.05; done
kill $traced
wait
echo attached
"""

# perf_event_open(2) of a software event, the task's own clock: how it ends, and whether it counts.
PERF = """
cat >work.py <<'END'
import ctypes, os, struct
number = {"x86_64": 298, "aarch64": 241}[os.uname().machine]
libc = ctypes.CDLL(None, use_errno=True)
# type software, size, config task clock; exclude_kernel and exclude_hv
attributes = struct.pack("=IIQQQQQ", 1, 128, 1, 0, 0, 0, 1 << 5 | 1 << 6).ljust(128, b"\\0")
fd = libc.syscall(number, attributes, 0, -1, -1, 0)
if fd < 0:
    print("refused", os.strerror(ctypes.get_errno()))
else:
    sum(range(100000))
    print("counted", int.from_bytes(os.read(fd, 8), "little") > 0)
END
python3 -ISE work.py
"""

BWRAP = """
bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev --tmpfs /tmp --dir /tmp/made \\
    sh -c 'ls /tmp; ps -e -o comm= >/tmp/ps; sort /tmp/ps; touch x 2>/dev/null || echo read-only'
bwrap --dev-bind / / --unshare-user --uid 0 --unshare-cgroup sh -c 'id -u; echo kept >file'
cat file
unshare -Urm sh -c 'mount -t tmpfs none /mnt && stat -f -c %T /mnt'
unshare -Urnpf --mount-proc sh -c 'ps -e -o comm= >list; sort list'
"""

SQLITE = """
cat >work.py <<'END'
import sqlite3, subprocess, sys
OTHER = "import sqlite3; sqlite3.connect('%s', timeout=0).execute('begin immediate')"
for mode in ("delete", "wal"):
    one = sqlite3.connect(mode, timeout=0)
    one.execute(f"pragma journal_mode={mode}")
    one.execute("create table t (x)")
    one.execute("begin immediate")
    done = subprocess.run([sys.executable, "-c", OTHER % mode], stderr=subprocess.PIPE)
    print(done.stderr.split(b": ")[-1].decode().strip())
    one.execute("commit")
END
python3 -ISE work.py
"""

# A daemon that nobody supervises: it forks twice, keeps a PID file, and is stopped by it; then one
# that is left to the end of the job.
DAEMON = """
PATH=$PATH:/usr/sbin:/sbin
cat >server <<'END'
#!/usr/bin/python3 -ISE
import os, socket
listener = socket.create_server(("127.0.0.1", 0))
with open("port.new", "w") as file:
    print(listener.getsockname()[1], file=file)
os.rename("port.new", "port")
while True:
    connection, _ = listener.accept()
    connection.sendall(b"served")
    connection.close()
END
chmod 755 server
service="--pidfile $PWD/pid --startas $PWD/server"
start-stop-daemon --start --background --make-pidfile --chdir "$PWD" $service
until [ -e port ]; do sleep 0.05; done
ask='import socket, sys; print(socket.create_connection(("127.0.0.1", int(sys.argv[1]))).recv(9))'
python3 -ISEc "$ask" "$(cat port)"
[ "$(ps -o sid= -p "$(cat pid)")" -ne "$(ps -o sid= -p $$)" ] && echo a session of its own
start-stop-daemon --start --test $service
start-stop-daemon --stop --retry 10 $service
start-stop-daemon --start --test $service >/dev/null && echo stopped
start-stop-daemon --start --background --make-pidfile --chdir "$PWD" $service
"""

# A window of Tk's, and a click on its button.
XVFB = """
export HOME=$PWD
Xvfb -displayfd 3 -screen 0 640x480x24 -nolisten tcp 3>display 2>log &
until [ -s display ]; do sleep 0.1; done
export DISPLAY=":$(cat display)"
cat >gui.py <<'END'
import tkinter
window = tkinter.Tk()
clicks = []
button = tkinter.Button(window, text="press", command=lambda: clicks.append(1))
button.pack()
window.update()
for event in ("<Enter>", "<Button-1>", "<ButtonRelease-1>"):
    button.event_generate(event)
window.update()
print(window.winfo_screenwidth(), window.winfo_viewable(), clicks)
END
python3 gui.py 2>>log
kill $!
wait
"""

# A tree with what sh(1) and its like need, as an image has it: there is no network to get one from.
ROOT = """
export HOME=$PWD/home
mkdir -p home root/bin root/dev root/etc root/proc root/sys root/tmp root/var/tmp root/mnt
cp /bin/sh /bin/cat /bin/sleep /usr/bin/id /bin/ps root/bin
ldd root/bin/* | grep -o '/[^ :]*lib[^ :]*' | sort -u | xargs cp --parents -Lt root
cp /etc/passwd /etc/group root/etc
"""

# Rootless: newuidmap, which is set-uid, maps the user's subordinate ids; and what is left running.
PODMAN = ROOT + """
tar -C root -c . | podman import -q - image >/dev/null 2>&1
podman() { command podman "$@" 2>>log; }
podman run --rm --network none -v "$PWD:/mnt" image \\
    /bin/sh -c 'id -u; ps -o pid= 1; echo made >/mnt/file'
podman run --rm --network none --user 33 image /bin/sh -c 'id -u; cat /proc/self/uid_map' |
    awk '{ print $NF }'
cat file
podman run -d --name left --network none image /bin/sleep 1000 >/dev/null
podman exec left /bin/ps -e -o comm= | sort
"""

TABLE = (
    Program("multiprocessing", MULTIPROCESSING, "3\n"),
    Program("numpy", NUMPY, "True\n7000\n", ("python3-numpy",)),
    Program("MPICH", MPICH, r"2 3\.0\n", ("mpich",)),
    Program("Java", JAVA, r"heap \d+\nPrivateKeyEntry\n", ("default-jre-headless",), compared=True),
    Program("hard links", HARD_LINKS, "2\nlinked\nin /tmp\nmoved\n/own\n"),
    Program(
        "job control",
        JOB_CONTROL,
        r"3\nended 143\n\[1\]\+  Stopped .*\ncontinued\n/dev/pts/\d+\n",
    ),
    Program("sudo", SUDO, r"sudo: .* is required\n", ("sudo",), compared=True),
    Program(
        "ssh", SSH, r"inside\n7\n/dev/pts/\d+\ncopied\n", ("openssh-client", "openssh-server")
    ),
    Program("gdb", GDB, "1\necho\n", ("gdb",)),
    Program("strace", STRACE, "2\nattached\n", ("strace",)),
    Program("perf", PERF, "refused .*\n|counted True\n", compared=True),
    Program(
        "bwrap",
        BWRAP,
        "made\nbwrap\nps\nsh\nread-only\n0\nkept\ntmpfs\nps\nsh\n",
        ("bubblewrap",),
    ),
    Program("SQLite", SQLITE, "database is locked\n" * 2),
    Program(
        "daemon",
        DAEMON,
        "b'served'\na session of its own\n.*already running.*\nstopped\n",
    ),
    Program("Xvfb", XVFB, r"640 1 \[1\]\n", ("xvfb", "python3-tk")),
    Program("Podman", PODMAN, " *0\n *1\n33\n1\n65536\nmade\nps\nsleep\n", ("podman", "uidmap")),
    Program("device node", f"stat -c '%F %t:%T' {DEVICE}\necho x >{DEVICE}\n",
            "character special file 1:3\n"),
)  # fmt: skip
PACKAGES = tuple(sorted({package for program in TABLE for package in program.packages}))
