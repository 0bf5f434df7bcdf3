#!/usr/bin/env bash
# Builds what the cluster is made of: etcd, the control plane, the kubelet and kubectl as one binary
# (its name at the call picks the program, as busybox does), a do-nothing CSI driver, two images.
#
#   build.sh          prints the directory that holds it all
#
# Debian's packages are installed where they are missing. The result is kept below target/cluster
# under a name made of go.sum, the sources and Go's version; what is there is not built again.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
readonly here
readonly packages=(containerd runc containernetworking-plugins busybox-static iptables conntrack
  socat iproute2 procps openssl jq curl)

packages() {
  dpkg -s "${packages[@]}" >/dev/null 2>&1 && return
  if ! command -v apt-get >/dev/null; then
    echo "a node is made of Debian's packages: ${packages[*]}" >&2
    return 1
  fi
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}"
}

# Kubernetes says which version it is only when the linker is told.
linker_flags() {
  local version numbers package flags='-s -w'
  version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
  numbers=${version#v}
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags+=" -X $package.gitVersion=$version -X $package.gitTreeState=clean"
    flags+=" -X $package.gitMajor=${numbers%%.*} -X $package.gitMinor=$(cut -d. -f2 <<<"$numbers")"
  done
  echo "$flags"
}

programs() {
  local out=$1 name
  cd "$here/kube"
  export CGO_ENABLED=0
  # Without debugging information: a third less memory and a minute less time.
  go build -trimpath -gcflags=all=-dwarf=false -ldflags "$(linker_flags)" -o "$out/labkube" ./cmd/labkube
  go build -trimpath -gcflags=all=-dwarf=false -ldflags '-s -w' -o "$out/fakecsi" ./cmd/fakecsi
  for name in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl; do
    ln -sfn labkube "$out/$name"
  done
}

images() {
  local out=$1 root applet
  root=$(mktemp -d)
  chmod 0755 "$root"
  mkdir -p "$root"/{bin,etc,tmp,var,root} "$out"
  chmod 1777 "$root/tmp"
  cp /bin/busybox "$root/bin/busybox"
  for applet in $(/bin/busybox --list); do
    [ "$applet" = busybox ] || ln -sf busybox "$root/bin/$applet"
  done
  echo 'root:x:0:0::/root:/bin/sh' >"$root/etc/passwd"
  echo 'root:x:0:' >"$root/etc/group"
  "$here/image.sh" cluster.local/busybox:1 "$out/busybox.tar" "$root" '["/bin/sh"]'
  "$here/image.sh" cluster.local/pause:1 "$out/pause.tar" "$root" '["/bin/busybox","sleep","2147483647"]'
  rm -rf "$root"
}

main() {
  local key target part
  if ! command -v go >/dev/null; then
    echo 'go is not installed: Kubernetes is built with it; https://go.dev/dl' >&2
    return 1
  fi
  packages >&2
  key=$({ go version; cat "$here"/kube/go.{mod,sum} "$here"/kube/cmd/*/*.go "$here"/{build,image}.sh; } | sha256sum | cut -c1-16)
  target=${CARGO_TARGET_DIR:-$here/../../target}/cluster
  mkdir -p "$target"
  target=$(cd "$target" && pwd)
  if [ ! -d "$target/$key" ]; then
    # Renamed when it is whole: a build that was broken off is never taken for one.
    part=$target/$key.part
    rm -rf "$part"
    mkdir -p "$part"
    (programs "$part") >&2
    images "$part/images" >&2
    find "$target" -mindepth 1 -maxdepth 1 ! -name "$key.part" -exec rm -rf {} +
    mv "$part" "$target/$key"
  fi
  echo "$target/$key"
}

main
