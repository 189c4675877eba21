# Where the cluster's files are, its addresses, and how its processes are started, watched and ended.
#
# Sourced by every script of this folder; runs nothing by itself. A process belongs to the cluster when `start` wrote its
# number to $RUN/pids and its command line names $RUN: a number that the kernel gave to somebody else since is left alone.

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
HOME_CLUSTER=${WEIR_CLUSTER_HOME:-$HOME/.cache/weir/cluster}
RUN=${WEIR_CLUSTER_RUN:-$HOME_CLUSTER/run}
LOCK=${WEIR_CLUSTER_LOCK:-/run/lock/weir-cluster.lock}
BIN=$HOME_CLUSTER/bin
IMAGES=$HOME_CLUSTER/images
PKI=$RUN/pki
LOG=$RUN/log
CONFIG=$RUN/config
KUBECONFIG_ADMIN=$RUN/kubeconfig

KUBERNETES_VERSION=1.34.4
HELM_VERSION=3.19.5
NODE=weir-node
BRIDGE=weir0
# The bridge's address: the API server, the kubelet, DNS and the model server listen here, for pods and this machine alike.
ADDRESS=10.244.0.1
POD_CIDR=10.244.0.0/24
SERVICE_CIDR=10.96.0.0/16
API=https://$ADDRESS:16443
ETCD=http://127.0.0.1:23790
CONTAINERD_SOCKET=$RUN/containerd/containerd.sock

# What runs, in the order in which it ends.
NODE_PROCESSES=(kubelet kube-proxy policies provisioner coredns containerd)
CONTROL_PLANE=(kube-scheduler kube-controller-manager kube-apiserver etcd)

say() { printf 'cluster: %s\n' "$*"; }

fail() {
  printf 'cluster: %s\n' "$*" >&2
  exit 1
}

# answers URL [OPTION...]: an https or http server of the cluster says yes. Never through a proxy.
answers() { curl --silent --fail --noproxy '*' --output /dev/null "$@"; }

kubectl() { "$BIN/kubectl" --kubeconfig "$KUBECONFIG_ADMIN" "$@"; }

# alive NAME: the process runs, and is the one that was started.
alive() {
  local pid
  pid=$(cat "$RUN/pids/$1" 2>/dev/null) && grep -qsF -- "$RUN" "/proc/$pid/cmdline"
}

# start NAME COMMAND...: in the background unless it runs already; its log is $LOG/NAME.log.
start() {
  local name=$1
  shift
  if alive "$name"; then return; fi
  # Descriptor 8 is the lock of the command that runs now. Descriptor 9 is the machine's: etcd alone keeps it, for as long
  # as the cluster lives.
  if [ "$name" = etcd ]; then
    setsid "$@" >>"$LOG/$name.log" 2>&1 </dev/null 8>&- &
  else
    setsid "$@" >>"$LOG/$name.log" 2>&1 </dev/null 8>&- 9>&- &
  fi
  echo $! >"$RUN/pids/$name"
  # Until the shell's copy has become the command, its command line is still that of this script.
  while kill -0 $! 2>/dev/null && ! alive "$name"; do sleep 0.02; done
}

# ended PID: nothing is left of the process, or its parent has only to take notice. Its command line goes before its last thread has, and
# what it listened on with that thread.
ended() {
  local threads
  threads=$(echo "/proc/$1/task/"*)
  [ ! -d "/proc/$1" ] || { [ "$threads" = "/proc/$1/task/$1" ] && grep -qs '^State:\s*Z' "/proc/$1/status"; }
}

# stop NAME [SECONDS]: SIGTERM to the process and its children, then SIGKILL after so many seconds (0: at once).
stop() {
  local pid patience=${2:-3} tenths=0
  if alive "$1"; then
    pid=$(cat "$RUN/pids/$1")
    [ "$patience" = 0 ] || kill -- "-$pid" 2>/dev/null || true
    while alive "$1" && [ $((tenths += 1)) -le $((patience * 10)) ]; do sleep 0.1; done
    if alive "$1"; then kill -9 -- "-$pid" 2>/dev/null || true; fi
    until ended "$pid"; do sleep 0.05; done
  fi
  rm -f "$RUN/pids/$1"
}

# wait_for SECONDS NAME COMMAND...: until COMMAND works; gives up early when the process NAME has ended.
wait_for() {
  local patience=$1 name=$2 end=$((SECONDS + $1))
  shift 2
  until "$@" >/dev/null 2>&1; do
    # While setsid becomes the command, there is no command line for a moment, a longer one on a busy machine.
    alive "$name" || { sleep 0.3; alive "$name"; } || fail "$name ended at start; the end of $LOG/$name.log: $(tail -n 5 "$LOG/$name.log")"
    [ $SECONDS -lt $end ] || fail "$name was not ready after $patience s: see $LOG/$name.log; waited for: $*"
    sleep 0.1
  done
}

# put FILE: write standard input there, unless it says so already (kube-proxy ends when its file is written).
put() {
  mkdir -p "$(dirname "$1")"
  cat >"$1.new"
  if cmp -s "$1.new" "$1"; then rm "$1.new"; else mv "$1.new" "$1"; fi
}
