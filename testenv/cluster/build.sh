# What the cluster runs, built once: Debian's packages for containers, binaries from Go modules, two images.
#
# Sourced by cluster.sh. The modules are pinned in tools/*/go.mod with the sums of everything they use in go.sum; Kubernetes,
# Helm and CoreDNS have a module each, so that each is built with the versions that its authors tested. The one that enforces
# NetworkPolicies has the versions of Kubernetes: most of it is compiled by then.

PACKAGES=(containerd runc containernetworking-plugins buildah iptables ipset nftables conntrack)

# need_packages: install what is missing where that can be done without asking (Debian, root).
need_packages() {
  local missing=() command
  for command in containerd runc buildah iptables ipset nft conntrack; do
    command -v $command >/dev/null || missing+=("$command")
  done
  [ -x /usr/lib/cni/ptp ] || missing+=("/usr/lib/cni/ptp")
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    fail "this machine lacks ${missing[*]}: as root on Debian, apt-get install -y ${PACKAGES[*]}"
  fi
  say "installing ${PACKAGES[*]} (${missing[*]} missing)"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${PACKAGES[@]}" >/dev/null
}

need_go() {
  local version
  command -v go >/dev/null || fail "go is missing, it builds the cluster's binaries: install Go 1.24 or newer"
  version=$(go env GOVERSION)
  [ "$(printf '%s\n' go1.24 "$version" | sort -V | head -n 1)" = go1.24 ] || fail "Go 1.24 or newer is needed, this is $version"
}

# compile MODULE OUTPUT LINKER_FLAGS PACKAGE...: without inlining, a quarter of what compiling takes.
compile() {
  local module=$1 output=$2 flags=$3
  shift 3
  say "building $output"
  (cd "$HERE/tools/$module" && CGO_ENABLED=0 go build -trimpath -gcflags all=-l -ldflags "-s -w $flags" -o "$BIN/$output" "$@")
}

# image NAME: a static binary as an image from nothing, without a daemon or a registry, in a store that is thrown away.
image() {
  local store container tool
  store=$(mktemp -d)
  tool=(buildah --root "$store/root" --runroot "$store/run" --storage-driver vfs)
  container=$("${tool[@]}" from scratch)
  "${tool[@]}" copy --quiet "$container" "$BIN/$1" "/$1" >/dev/null
  "${tool[@]}" config --entrypoint "[\"/$1\"]" --user 65532:65532 "$container"
  rm -f "$IMAGES/$1.tar"
  "${tool[@]}" commit --quiet --rm --timestamp 0 "$container" "oci-archive:$IMAGES/$1.tar:weir.local/$1:dev" >/dev/null
  rm -rf "$store"
}

# The recipe, the sources and the compiler that the binaries were made with.
build_fingerprint() {
  { cat "$HERE/build.sh" && find "$HERE/tools" -type f -print0 | sort -z | xargs -0 cat && go env GOVERSION; } | sha256sum
}

build() {
  need_packages
  need_go
  if [ "$(cat "$HOME_CLUSTER/built" 2>/dev/null)" = "$(build_fingerprint)" ]; then return; fi
  local flags="" package name
  mkdir -p "$BIN" "$IMAGES"
  # Without these the binaries call themselves v0.0.0-master, and clients refuse that.
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags+=" -X $package.gitVersion=v$KUBERNETES_VERSION -X $package.gitMajor=1 -X $package.gitMinor=34"
    flags+=" -X $package.gitTreeState=clean -X $package.gitCommit=module"
  done
  compile kubernetes etcd "" go.etcd.io/etcd/server/v3
  for name in kubectl kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy; do
    compile kubernetes $name "$flags" "k8s.io/kubernetes/cmd/$name"
  done
  compile policies policies "" .
  compile coredns coredns "" .
  # Charts ask Helm which Kubernetes there is, also where there is none.
  flags="-X helm.sh/helm/v3/internal/version.version=v$HELM_VERSION"
  for package in pkg/lint/rules pkg/chartutil; do
    flags+=" -X helm.sh/helm/v3/$package.k8sVersionMajor=1 -X helm.sh/helm/v3/$package.k8sVersionMinor=34"
  done
  compile helm helm "$flags" helm.sh/helm/v3/cmd/helm
  for name in pause probe; do
    compile images $name "" ./$name
    image $name
  done
  build_fingerprint >"$HOME_CLUSTER/built"
}
