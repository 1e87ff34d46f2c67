#!/bin/sh
# Keeps a container: container_keeper.sh DISK DIRECTORY GROUP HOW. It ends with its init, or with
# standard input, which nobody but its owner writes to, unless HOW is "stay". Nothing is left then.
set -u
disk=$1 directory=$2 group=$3 how=$4

end() {
    kill -KILL "$child" 2>/dev/null
    wait
    while ! find "$group" -depth -type d -exec rmdir {} +; do sleep 0.1; done 2>/dev/null
    rm -rf "$directory"
}

mkdir "$group" "$group/commands" || exit 1
setpriv --pdeathsig KILL unshare --mount --propagation private --net --ipc --uts --pid --fork \
    --kill-child "${0%keeper.sh}setup.sh" "$disk" "$directory" "$group" </dev/null &
child=$!
trap 'end; exit' TERM
if [ "$how" != stay ]; then cat >/dev/null; kill -KILL "$child" 2>/dev/null; fi
wait "$child"
end
