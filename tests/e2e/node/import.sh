#!/bin/sh
# Gives the images of an archive to the node's containerd: import.sh ROOT ARCHIVE
# Runs in a mount namespace of its own (unshare --mount), so that nothing stays mounted.
set -eu
root=$1
archive=$2
for folder in proc sys dev; do mount --rbind "/$folder" "$root/$folder"; done
mount -t tmpfs tmpfs "$root/run"

chroot "$root" containerd >"$root/run/containerd.log" 2>&1 &
containerd=$!
trap 'kill $containerd; wait $containerd || true' EXIT
tries=0
until chroot "$root" ctr version >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ $tries -gt 300 ]; then cat "$root/run/containerd.log" >&2; exit 1; fi
    sleep 0.1
done
chroot "$root" ctr --namespace k8s.io images import --no-unpack --label io.cri-containerd.pinned=pinned - \
    <"$archive" >/dev/null
