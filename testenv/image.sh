#!/usr/bin/env bash
# Container images from binaries: no daemon, no registry, no base image, nothing that runs while they are made.
#
#   testenv/image.sh [--tag TAG] [--output DIR] [weir] [llama-server]
#
# It makes OCI archives `DIR/weir.tar` and `DIR/llama-server.tar` (or the one that is named), called weir.local/NAME:TAG inside, and
# prints their sizes. TAG is `dev` and DIR is target/images unless given. An archive goes into the test cluster with
# `testenv/cluster/cluster.sh load`, and into a registry with `skopeo copy oci-archive:DIR/weir.tar docker://...`.
#
#   weir          /weir, with every process of a cluster (cargo feature `cluster`), and the roots of public authorities
#   llama-server  /llama-server, the engine-static component of fetch.py
#
# Both run as user 65532 and need no writable root. WEIR_IMAGE_PROFILE is the cargo profile of weir: `release`, a static binary, or `dev`
# (the default): the binary that the tests run and this machine's C library beside it, so that nothing is compiled for the image alone.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
profile=${WEIR_IMAGE_PROFILE:-dev}
triple=$(uname -m)-unknown-linux-gnu
engine=$HOME/.cache/weir/bin/llama-server-static
roots=/etc/ssl/certs/ca-certificates.crt
tag=dev
output=$target/images
images=()

fail() {
  printf 'image: %s\n' "$*" >&2
  exit 1
}

while [ $# -gt 0 ]; do
  case "$1" in
    --tag | --output)
      [ $# -gt 1 ] || fail "$1 needs a value"
      [ "$1" = --tag ] && tag=$2 || output=$2
      shift
      ;;
    weir | llama-server) images+=("$1") ;;
    -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    *) fail "there is no image '$1': weir, llama-server" ;;
  esac
  shift
done
[ ${#images[@]} -gt 0 ] || images=(weir llama-server)
[ "$profile" = dev ] || [ "$profile" = release ] || fail "WEIR_IMAGE_PROFILE is dev or release, not $profile"
command -v buildah >/dev/null || fail "buildah is missing, it writes the images (testenv/cluster/cluster.sh build installs it, on Debian)"
mkdir -p "$output"
store=$(mktemp -d)
trap 'rm -rf "$store"' EXIT

# tool ARGUMENT...: buildah on a store of its own, whatever this machine's is.
tool() { buildah --root "$store/root" --runroot "$store/run" --storage-driver vfs "$@"; }

# weir_release: a binary with the C library linked in. Names resolve all the same, since glibc 2.34 has its DNS inside.
weir_release() {
  RUSTFLAGS="-C target-feature=+crt-static" CARGO_INCREMENTAL=0 ${CARGO:-cargo} build --locked -p weir --features cluster \
    --target "$triple" --target-dir "$target/image" --release --config profile.release.strip=true
  files=("$target/image/$triple/release/weir=/weir")
}

# weir_dev: the tests' binary without its symbols, its libraries and their loader, each where the binary looks for it.
weir_dev() {
  local binary library
  binary=$(testenv/binaries.sh)/weir
  strip -o "$store/weir" "$binary"
  files=("$store/weir=/weir")
  while read -r library; do
    files+=("$(readlink -f "$library")=$library")
  done < <(ldd "$binary" | grep -o '/[^ ]*')
}

# archive NAME FILE=PATH...: those files, root's and readable by all, with the first as the program.
archive() {
  local name=$1 container file
  shift
  container=$(tool from scratch)
  for file in "$@"; do
    tool copy --quiet --chown 0:0 --chmod 0755 "$container" "${file%%=*}" "${file#*=}" >/dev/null
  done
  tool config --entrypoint "[\"${1#*=}\"]" --user 65532:65532 --label org.opencontainers.image.title="$name" "$container"
  rm -f "$output/$name.tar"
  # A fixed time: the same files give the same image, so a rebuild without a change restarts nothing.
  tool commit --quiet --rm --timestamp 0 --disable-compression=false "$container" \
    "oci-archive:$output/$name.tar:weir.local/$name:$tag" >/dev/null
  printf 'image: weir.local/%s:%s  %s program, %s archive  %s\n' "$name" "$tag" \
    "$(numfmt --to=iec "$(stat -Lc %s "${1%%=*}")")" "$(numfmt --to=iec "$(stat -c %s "$output/$name.tar")")" "$output/$name.tar"
}

for image in "${images[@]}"; do
  case $image in
    weir)
      [ -f $roots ] || fail "no roots at $roots (Debian: apt-get install ca-certificates)"
      "weir_$profile"
      archive weir "${files[@]}" "$roots=/etc/ssl/certs/ca-certificates.crt"
      ;;
    llama-server)
      [ -x "$engine" ] || fail "no engine at $engine: testenv/fetch.py engine-static builds it"
      archive llama-server "$engine=/llama-server"
      ;;
  esac
done
