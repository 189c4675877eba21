# Taking the cluster down, whatever state it is in: also one whose `up` was killed half way.
#
# Sourced by cluster.sh. First nobody may start anything again (kubelet, containerd), then pods end, then the control plane,
# then what the kernel still holds. Only what carries the cluster's name or lies under $RUN is touched.

# Pods: a shim a pod, which names our socket; the processes of its containers are its children.
end_pods() {
  local cmdline shim state
  for cmdline in $(grep -lsF -- "$CONTAINERD_SOCKET" /proc/[0-9]*/cmdline); do
    shim=$(cut -d/ -f3 <<<"$cmdline")
    [[ $(readlink "/proc/$shim/exe") == *containerd-shim* ]] || continue
    pkill -KILL --parent "$shim"
    kill -9 "$shim" 2>/dev/null
  done
  # A shim leaves the socket that it was asked through, and runc what it knew of the containers.
  for state in "$RUN"/containerd/state/io.containerd.runtime.v2.task/k8s.io/*; do
    rm -rf "/run/containerd/runc/k8s.io/$(basename "$state")"
  done
  find "$RUN/containerd/state" -name address -exec cat {} + 2>/dev/null | grep -o '/run/containerd/s/[0-9a-f]*' | xargs -r rm -f
}

mounts_of_cluster() { awk -v folder="$RUN/" 'index($2, folder) == 1 {print $2}' /proc/mounts | sort -r; }

unmount_all() {
  mounts_of_cluster | xargs -r -n 1 umount --lazy
  # Removing a folder removes what is mounted below it, such as the models of this machine.
  [ -z "$(mounts_of_cluster)" ] || fail "still mounted below $RUN, nothing was removed: $(mounts_of_cluster | xargs)"
}

# What tools/policies has put between pods: its chains are called KUBE-ROUTER-..., KUBE-POD-FW-... and KUBE-NWPLCY-..., its sets
# KUBE-SRC-... and KUBE-DST-..., and TMP-... while it makes them.
undo_policies() {
  local chains='KUBE-(ROUTER|POD-FW|NWPLCY)-' sets='^(KUBE-(SRC|DST)|TMP)-[A-Z2-7]{16}$' tries=0
  ! iptables-save --table filter | grep --quiet --extended-regexp "$chains" ||
    iptables-save --table filter | grep --extended-regexp --invert-match "$chains" | iptables-restore --wait --table filter
  # The kernel lets go of a set a moment after the rules that named it.
  until ! ipset list -name | grep --extended-regexp "$sets" | xargs -r -n 1 ipset destroy 2>&1 | grep --quiet . ||
    [ $((tries += 1)) -gt 50 ]; do sleep 0.1; done
  # iptables makes its table when it is first asked.
  if [ -f "$RUN/tables" ] && ! grep --quiet --line-regexp 'table ip filter' "$RUN/tables" &&
    ! iptables --wait --list-rules | grep --quiet --invert-match '^-P'; then nft delete table ip filter 2>/dev/null; fi
}

undo_network() {
  local table memory pod
  ! ip link show $BRIDGE >/dev/null 2>&1 || ip link del $BRIDGE
  for table in "ip kube-proxy" "ip6 kube-proxy" "ip weir-test"; do
    # shellcheck disable=SC2086
    ! nft list table $table >/dev/null 2>&1 || nft delete table $table
  done
  # The plugins remember each pod's links, the loopback too, which every cluster calls alike: a pod's number tells them apart.
  for memory in /var/lib/cni/results/weir-pods-*-eth0; do
    pod=${memory#*weir-pods-}
    rm -f "$memory" "/var/lib/cni/results/cni-loopback-${pod%-eth0}-lo"
  done
}

undo_kernel_settings() {
  [ ! -f "$RUN/sysctls" ] || sysctl --quiet --load "$RUN/sysctls"
  # The kubelet's groups, in the one hierarchy or in each of the old kind; one that is in use stays.
  local groups
  for groups in /sys/fs/cgroup/kubepods /sys/fs/cgroup/*/kubepods; do
    [ ! -d "$groups" ] || find "$groups" -depth -type d -exec rmdir {} + 2>/dev/null
  done
}

take_down() {
  local name
  if [ ! -d "$RUN" ]; then
    say "not up"
    return
  fi
  # What is gone already must not keep the rest from going.
  set +e
  for name in "${NODE_PROCESSES[@]}"; do stop "$name"; done
  end_pods
  # Watches keep an API server open for a minute; there is nothing to be saved.
  for name in "${CONTROL_PLANE[@]}"; do stop "$name" 0; done
  undo_network
  undo_policies
  undo_kernel_settings
  unmount_all
  find /var/log/containers -lname "$RUN/*" -delete 2>/dev/null
  # Here the kubelet listens for device plugins, wherever its own folder is.
  rm -f /var/lib/kubelet/device-plugins/kubelet.sock
  rmdir /var/lib/kubelet/device-plugins /var/lib/kubelet 2>/dev/null
  rm -rf --one-file-system "$RUN"
  if [ "$(cat "$LOCK" 2>/dev/null)" = "$RUN" ]; then : >"$LOCK"; fi
  set -e
  say "down"
}
