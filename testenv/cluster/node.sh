# The node: containerd, kubelet, kube-proxy, DNS, the provisioner of volumes and what enforces NetworkPolicies, all on this machine.
#
# Sourced by cluster.sh. Nothing is pulled: images come from archives, and the kubelet never collects them.

# What the kubelet changes on this machine; `down` puts it back.
SYSCTLS=(vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys
  kernel.keys.root_maxbytes net.ipv4.ip_forward)

run_containerd() {
  # A point-to-point link a pod, not a shared bridge: every packet then passes this machine's routing, where kube-proxy
  # rewrites Service addresses, also on kernels whose bridges bypass it.
  put "$CONFIG/cni/10-weir.conflist" <<Y
{"cniVersion": "1.0.0", "name": "weir-pods", "plugins": [
  {"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local", "dataDir": "$RUN/cni",
    "ranges": [[{"subnet": "$POD_CIDR"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
Y
  # restrict_oom_score_adj: inside a container or a small virtual machine runc may not lower it.
  put "$CONFIG/containerd.toml" <<Y
version = 2
root = "$RUN/containerd/root"
state = "$RUN/containerd/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt"]
[grpc]
  address = "$CONTAINERD_SOCKET"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "weir.local/pause:dev"
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$CONFIG/cni"
Y
  start containerd containerd --config "$CONFIG/containerd.toml"
  wait_for 30 containerd ctr --address "$CONTAINERD_SOCKET" version
}

run_kubelet() {
  put "$CONFIG/resolv.conf" </dev/null
  put "$CONFIG/kubelet.yaml" <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $ADDRESS
healthzBindAddress: 127.0.0.1
authentication: {x509: {clientCAFile: $PKI/ca.crt}, anonymous: {enabled: false}, webhook: {enabled: true}}
authorization: {mode: Webhook}
tlsCertFile: $PKI/kubelet.crt
tlsPrivateKeyFile: $PKI/kubelet.key
containerRuntimeEndpoint: unix://$CONTAINERD_SOCKET
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
clusterDNS: [$ADDRESS]
clusterDomain: cluster.local
resolvConf: $CONFIG/resolv.conf
podLogsDir: $RUN/pod-logs
volumePluginDir: $RUN/volume-plugins
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
Y
  start kubelet "$BIN/kubelet" --config "$CONFIG/kubelet.yaml" --kubeconfig "$CONFIG/kubelet.kubeconfig" \
    --root-dir "$RUN/kubelet" --hostname-override $NODE --node-ip $ADDRESS
}

run_kube-proxy() {
  put "$CONFIG/proxy.yaml" <<Y
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: $CONFIG/proxy.kubeconfig}
clusterCIDR: $POD_CIDR
hostnameOverride: $NODE
bindAddress: $ADDRESS
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
Y
  start kube-proxy "$BIN/kube-proxy" --config "$CONFIG/proxy.yaml"
}

run_coredns() {
  local outside=""
  # A machine without a resolver has no outside names: without `forward` they are refused at once.
  ! grep -qs '^nameserver' /etc/resolv.conf || outside="forward . /etc/resolv.conf"
  put "$CONFIG/Corefile" <<Y
.:53 {
  bind $ADDRESS
  errors
  ready $ADDRESS:8181
  cache 5
  kubernetes cluster.local in-addr.arpa {
    kubeconfig $CONFIG/coredns.kubeconfig
    ttl 5
  }
  $outside
}
Y
  start coredns "$BIN/coredns" -conf "$CONFIG/Corefile"
}

run_provisioner() {
  start provisioner python3 "$HERE/provisioner.py" --kubectl "$BIN/kubectl" --node $NODE \
    --kubeconfig "$CONFIG/provisioner.kubeconfig" --folder "$RUN/volumes"
}

run_policies() {
  start policies "$BIN/policies" --kubeconfig "$CONFIG/policies.kubeconfig" --node $NODE --services $SERVICE_CIDR
}

# Pods reach what this machine reaches, under its address: a model hub, where there is one.
open_the_outside() {
  nft -f - <<Y
table ip weir-test
delete table ip weir-test
table ip weir-test {
  chain outside {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr $POD_CIDR ip daddr != { $POD_CIDR, $SERVICE_CIDR } masquerade
  }
}
Y
}

# load_image ARCHIVE [NAME]: the image under its own name, and under NAME as well.
load_image() {
  local ctr=(ctr --address "$CONTAINERD_SOCKET" --namespace k8s.io images) own
  [ -f "$1" ] || fail "no image archive at $1"
  "${ctr[@]}" import "$1" >/dev/null
  if [ -n "${2:-}" ]; then
    own=$(tar -xOf "$1" index.json | grep -o '"org.opencontainers.image.ref.name":"[^"]*"' | cut -d '"' -f 4)
    "${ctr[@]}" tag --force "$own" "$2" >/dev/null
  fi
}

node_up() {
  local image
  # By these NetworkPolicies are enforced.
  ipset create weir-probe hash:ip && ipset destroy weir-probe || fail "this kernel has no sets of addresses (ip_set): no NetworkPolicy could be enforced"
  [ -f "$RUN/sysctls" ] || sysctl --ignore "${SYSCTLS[@]}" >"$RUN/sysctls"
  sysctl -qw net.ipv4.ip_forward=1
  # Whose the table is in which chains for pods will be: one that was there stays when they go.
  [ -f "$RUN/tables" ] || nft list tables >"$RUN/tables"
  run_containerd
  for image in pause probe; do load_image "$IMAGES/$image.tar"; done
  run_kubelet
  run_kube-proxy
  open_the_outside
  run_coredns
  run_provisioner
  wait_for 90 kubelet kubectl wait --for=condition=Ready node/$NODE --timeout=1s
  # It asks for the node at its start, which is there by now.
  run_policies
  wait_for 30 policies iptables --wait --numeric --list KUBE-ROUTER-FORWARD
  wait_for 30 coredns answers "http://$ADDRESS:8181/ready"
}
