# The cluster's certificates and kubeconfigs: one authority, made anew for every cluster, elliptic-curve keys.
#
# Sourced by cluster.sh. A client's identity is in its certificate: the common name is the user, the organisation the group.

# certificate NAME SUBJECT [ALTERNATIVE_NAMES]
certificate() {
  local extensions="extendedKeyUsage=serverAuth,clientAuth"
  [ -z "${3:-}" ] || extensions+=$'\n'"subjectAltName=$3"
  openssl ecparam -genkey -name prime256v1 -noout -out "$PKI/$1.key"
  openssl req -new -key "$PKI/$1.key" -subj "$2" |
    openssl x509 -req -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -CAcreateserial -days 3650 \
      -extfile <(printf '%s\n' "$extensions") -out "$PKI/$1.crt" 2>/dev/null
}

# kubeconfig NAME FILE: everything inside, so that the file can be copied away.
kubeconfig() {
  put "$2" <<Y
apiVersion: v1
kind: Config
current-context: weir-test
contexts: [{name: weir-test, context: {cluster: weir-test, user: $1}}]
clusters:
- name: weir-test
  cluster: {server: "$API", certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")}
users:
- name: $1
  user: {client-certificate-data: $(base64 -w0 "$PKI/$1.crt"), client-key-data: $(base64 -w0 "$PKI/$1.key")}
Y
  chmod 600 "$2"
}

make_pki() {
  local user
  mkdir -p "$PKI"
  openssl ecparam -genkey -name prime256v1 -noout -out "$PKI/ca.key"
  openssl req -x509 -new -key "$PKI/ca.key" -days 3650 -subj /CN=weir-test-ca -out "$PKI/ca.crt"
  openssl ecparam -genkey -name prime256v1 -noout -out "$PKI/service-accounts.key"
  certificate apiserver /CN=kube-apiserver \
    "IP:127.0.0.1,IP:$ADDRESS,IP:10.96.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
  certificate apiserver-kubelet /O=system:masters/CN=apiserver-kubelet
  certificate front-proxy /CN=front-proxy
  certificate admin /O=system:masters/CN=admin
  certificate controller-manager /CN=system:kube-controller-manager
  certificate scheduler /CN=system:kube-scheduler
  certificate proxy /CN=system:kube-proxy
  certificate coredns /CN=system:coredns
  certificate provisioner /CN=system:volume-provisioner
  certificate policies /CN=system:network-policies
  certificate kubelet "/O=system:nodes/CN=system:node:$NODE" "IP:$ADDRESS,DNS:$NODE"
  for user in controller-manager scheduler proxy coredns provisioner policies kubelet; do
    kubeconfig "$user" "$CONFIG/$user.kubeconfig"
  done
  kubeconfig admin "$KUBECONFIG_ADMIN"
}
