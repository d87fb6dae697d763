#!/bin/sh
# Pods get a network only once kube-proxy has the rule of the API server's Service: CoreDNS would dial
# the API before that, and wait long before it tries again.
set -eu
until iptables-save -t nat | grep -q 10.96.0.1; do sleep 0.2; done
mkdir -p /etc/cni/net.d
cp /kind/cni/10-ptp.conflist /etc/cni/net.d/
