# The control plane: etcd, API server, controller manager, scheduler, and the objects that every cluster has.
#
# Sourced by cluster.sh. Each process has a function of its own, so that `cluster.sh restart` can start it again.

run_etcd() {
  # A test cluster outlives no crash of its machine, so nothing is synced to the disk.
  start etcd "$BIN/etcd" --data-dir "$RUN/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls $ETCD --advertise-client-urls $ETCD --listen-peer-urls http://127.0.0.1:23800 \
    --initial-advertise-peer-urls http://127.0.0.1:23800 --initial-cluster default=http://127.0.0.1:23800
}

run_kube-apiserver() {
  # The audit log holds every write with its author: tests count the writes of an idle operator in it. Of the namespace `team`, which
  # has an operator of its own, it holds what that reads too: nothing may be refused.
  put "$CONFIG/audit.yaml" <<'Y'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, verbs: [create, update, patch, delete, deletecollection]}
- {level: Metadata, userGroups: ["system:serviceaccounts:team"]}
- {level: None}
Y
  start kube-apiserver "$BIN/kube-apiserver" --etcd-servers $ETCD \
    --bind-address $ADDRESS --advertise-address $ADDRESS --secure-port "${API##*:}" \
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged \
    --service-cluster-ip-range $SERVICE_CIDR --client-ca-file "$PKI/ca.crt" \
    --tls-cert-file "$PKI/apiserver.crt" --tls-private-key-file "$PKI/apiserver.key" \
    --service-account-issuer https://kubernetes.default.svc \
    --service-account-key-file "$PKI/service-accounts.key" \
    --service-account-signing-key-file "$PKI/service-accounts.key" \
    --kubelet-client-certificate "$PKI/apiserver-kubelet.crt" --kubelet-client-key "$PKI/apiserver-kubelet.key" \
    --kubelet-certificate-authority "$PKI/ca.crt" --kubelet-preferred-address-types InternalIP \
    --requestheader-client-ca-file "$PKI/ca.crt" --requestheader-allowed-names front-proxy \
    --requestheader-username-headers X-Remote-User --requestheader-group-headers X-Remote-Group \
    --requestheader-extra-headers-prefix X-Remote-Extra- --enable-aggregator-routing \
    --proxy-client-cert-file "$PKI/front-proxy.crt" --proxy-client-key-file "$PKI/front-proxy.key" \
    --audit-policy-file "$CONFIG/audit.yaml" --audit-log-path "$LOG/audit.log" --audit-log-maxsize 200
  wait_for 120 kube-apiserver answers "$API/readyz" --cacert "$PKI/ca.crt"
}

run_kube-controller-manager() {
  local config=$CONFIG/controller-manager.kubeconfig
  start kube-controller-manager "$BIN/kube-controller-manager" --kubeconfig "$config" \
    --authentication-kubeconfig "$config" --authorization-kubeconfig "$config" --bind-address 127.0.0.1 \
    --leader-elect=false --use-service-account-credentials --root-ca-file "$PKI/ca.crt" \
    --service-account-private-key-file "$PKI/service-accounts.key" \
    --cluster-signing-cert-file "$PKI/ca.crt" --cluster-signing-key-file "$PKI/ca.key" \
    --horizontal-pod-autoscaler-sync-period 5s
}

run_kube-scheduler() {
  local config=$CONFIG/scheduler.kubeconfig
  start kube-scheduler "$BIN/kube-scheduler" --kubeconfig "$config" --authentication-kubeconfig "$config" \
    --authorization-kubeconfig "$config" --bind-address 127.0.0.1 --leader-elect=false
}

# The bridge carries the address of the API server; loopback addresses are refused for it, and pods could not reach them.
make_bridge() {
  ip link show $BRIDGE >/dev/null 2>&1 || ip link add $BRIDGE type bridge
  ip addr replace $ADDRESS/24 dev $BRIDGE
  ip link set $BRIDGE up
}

control_plane_up() {
  make_bridge
  [ -f "$KUBECONFIG_ADMIN" ] || make_pki
  run_etcd
  run_kube-apiserver
  run_kube-controller-manager
  run_kube-scheduler
  # The controller manager works when it has made this account.
  wait_for 60 kube-controller-manager kubectl get serviceaccount default
  kubectl apply --server-side --filename "$HERE/objects.yaml" >/dev/null
}
