#!/usr/bin/env bash
# A real Kubernetes cluster on this machine, for development and CI: no downloads of binaries, no images from a registry.
#
#   cluster.sh build              build what it runs: once, six minutes or more; afterwards it says so and ends
#   cluster.sh up [--no-node]     start it and wait until its node is Ready (ten seconds); prints the kubeconfig's path.
#                                 --no-node: the control plane alone, where no pod runs
#   cluster.sh down               end it: no process, mount, interface, firewall table or file of it stays
#   cluster.sh load IMAGE_TAR [NAME]
#                                 import an image archive (those of testenv/image.sh) into the running node, and call it NAME too:
#                                 an upgrade to the same program under another name
#   cluster.sh restart PROCESS    SIGKILL one process of it, if it runs, and start it again (kube-apiserver, kubelet, etcd, ...)
#   cluster.sh status             say of every process whether it is alive, and how the log of each that is not ends; fails when
#                                 one is not
#   cluster.sh kubeconfig         print the kubeconfig's path
#   cluster.sh --help             this text
#
# It is Kubernetes 1.34.4 with etcd, CoreDNS and containerd, on one node, this machine. kubectl, helm and the others are in
# ~/.cache/weir/cluster/bin. It needs Linux with cgroups, nftables and ipset, root, Go 1.24 or newer, openssl, curl and python3;
# Debian's packages of containers are installed when they are missing. One cluster runs on a machine at a time: a lock says who.
#
#   addresses    10.244.0.1 is this machine as pods see it, on the bridge weir0: API server :16443, DNS :53. Pods are in
#                10.244.0.0/24, Services in 10.96.0.0/16; this machine reaches both, so a test can call a pod directly.
#                Pods reach the outside as this machine does.
#   names        cluster.local is answered inside pods, and for this machine by 10.244.0.1; other names as on this machine.
#   images       are imported, never pulled: imagePullPolicy Never or IfNotPresent. weir.local/probe:dev is there: GET, POST and
#                look-ups from inside a pod (tools/images/probe).
#   volumes      the default class `standard` makes a folder for a claim when the first pod uses it; fsGroup is honoured as on a
#                real disk (provisioner.py).
#   pod security label a namespace pod-security.kubernetes.io/enforce=restricted and it is enforced.
#   policies     NetworkPolicies are enforced: what none lets in is refused, not dropped. A pod is known to them a moment after it has
#                an address. This machine itself reaches every pod (tools/policies).
#   writes       every write with its author is in ~/.cache/weir/cluster/run/log/audit.log; reads of the namespace `team` too.
#   not there    LoadBalancers get no address, there are no metrics and no CSI.
#
# State and logs are in ~/.cache/weir/cluster/run. Environment: WEIR_CLUSTER_RUN (that folder), WEIR_CLUSTER_HOME (binaries and
# images, ~/.cache/weir/cluster), WEIR_CLUSTER_LOCK (/run/lock/weir-cluster.lock).
#
# Reading on: control_plane.sh and node.sh (what runs, with which flags), down.sh, build.sh, lib.sh.
set -euo pipefail
called_from=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")"
for part in lib build pki control_plane node down; do
  # shellcheck source=/dev/null
  . "./$part.sh"
done

usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' cluster.sh; }

need_root() { [ "$(id -u)" = 0 ] || fail "root is needed: a cluster makes interfaces, mounts and cgroups"; }

# one_command: commands that change the same cluster wait for each other.
one_command() {
  mkdir -p "$(dirname "$RUN")"
  exec 8>"$RUN.lock"
  flock --nonblock 8 || { say "another command works on $RUN, waiting for it"; flock 8; }
}

# one_cluster: take the machine's lock; etcd keeps it open.
one_cluster() {
  local owner
  mkdir -p "$(dirname "$LOCK")"
  owner=$(cat "$LOCK" 2>/dev/null || true)
  exec 9<>"$LOCK"
  flock --nonblock 9 || fail "another cluster is up on this machine${owner:+, its state is in $owner}: take it down first"
  echo "$RUN" >"$LOCK"
}

# intact: everything that was started still runs.
intact() {
  local file
  for file in "$RUN"/pids/*; do alive "$(basename "$file")" || return 1; done
}

up() {
  local extent=node reached
  case "${1:-}" in
    "") ;;
    --no-node) extent=control-plane ;;
    *) fail "up takes --no-node or nothing, not $1" ;;
  esac
  need_root
  one_command
  build
  reached=$(cat "$RUN/reached" 2>/dev/null || true)
  if [ -d "$RUN" ] && { [ -z "$reached" ] || ! intact; }; then
    say "what an earlier run left in $RUN is not a whole cluster: taking it down"
    take_down
    reached=""
  fi
  case "$reached $extent" in
    "node "* | "control-plane control-plane") say "already up ($reached)" ;;
    *)
      [ -n "$reached" ] || one_cluster
      mkdir -p "$RUN/pids" "$LOG" "$CONFIG"
      control_plane_up
      [ $extent = control-plane ] || node_up
      echo $extent >"$RUN/reached"
      say "up after $SECONDS s ($extent)"
      ;;
  esac
  echo "$KUBECONFIG_ADMIN"
}

# status: what runs and what does not.
status() {
  local name names=("${CONTROL_PLANE[@]}") dead=0
  [ -d "$RUN" ] || fail "not up: there is no $RUN"
  [ "$(cat "$RUN/reached" 2>/dev/null)" = control-plane ] || names+=("${NODE_PROCESSES[@]}")
  for name in "${names[@]}"; do
    if alive "$name"; then
      say "$name is alive"
    else
      dead=1
      say "$name is not alive; the end of $LOG/$name.log:"
      { tail -n 15 "$LOG/$name.log" 2>&1 || true; } | cut -c 1-500 | sed "s/^/    /"
    fi
  done
  return $dead
}

case "${1:-}" in
  build) one_command; build; say "built in $BIN" ;;
  up) up "${@:2}" ;;
  down) need_root; one_command; take_down ;;
  load)
    alive containerd || fail "no cluster with a node is up: cluster.sh up starts one"
    [ -n "${2:-}" ] || fail "load needs an image archive"
    load_image "$(cd "$called_from" && realpath -m -- "$2")" "${@:3}"
    ;;
  restart)
    [ -n "${2:-}" ] && [ -e "$RUN/pids/$2" ] || fail "no process of the cluster is called '${2:-}'; there are: $(find "$RUN/pids" -type f -printf '%f ' 2>/dev/null)"
    [ "$2" != etcd ] || one_command
    stop "$2" 0
    [ "$2" != etcd ] || one_cluster
    "run_$2"
    ;;
  status) status ;;
  kubeconfig) echo "$KUBECONFIG_ADMIN" ;;
  help | --help | -h) usage ;;
  *) usage >&2; exit 2 ;;
esac
