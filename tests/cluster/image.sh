#!/usr/bin/env bash
# An OCI archive of one layer, made without a registry and without a builder.
#
#   image.sh NAME OUT.tar ROOT ENTRYPOINT_AS_JSON
set -euo pipefail
name=$1 out=$2 root=$3 entrypoint=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
blobs=$work/oci/blobs/sha256
mkdir -p "$blobs"

# The same files give the same bytes.
pack() { tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner "$@"; }

# Moves a file among the blobs; prints its digest and its size.
add() {
  local digest size
  digest=$(sha256sum "$1" | cut -d' ' -f1)
  size=$(stat -c %s "$1")
  mv "$1" "$blobs/$digest"
  echo "$digest $size"
}

case $(uname -m) in
  x86_64) architecture=amd64 ;;
  aarch64) architecture=arm64 ;;
  *) echo "image.sh knows no name for the architecture $(uname -m)" >&2; exit 1 ;;
esac
readonly oci=application/vnd.oci.image

pack -C "$root" -cf "$work/layer.tar" .
read -r layer layer_size < <(add "$work/layer.tar")
cat >"$work/config" <<JSON
{"architecture":"$architecture","os":"linux","created":"1970-01-01T00:00:00Z",
 "config":{"Entrypoint":$entrypoint,"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
 "rootfs":{"type":"layers","diff_ids":["sha256:$layer"]}}
JSON
read -r config config_size < <(add "$work/config")
cat >"$work/manifest" <<JSON
{"schemaVersion":2,"mediaType":"$oci.manifest.v1+json",
 "config":{"mediaType":"$oci.config.v1+json","digest":"sha256:$config","size":$config_size},
 "layers":[{"mediaType":"$oci.layer.v1.tar","digest":"sha256:$layer","size":$layer_size}]}
JSON
read -r manifest manifest_size < <(add "$work/manifest")
cat >"$work/oci/index.json" <<JSON
{"schemaVersion":2,"manifests":[
 {"mediaType":"$oci.manifest.v1+json","digest":"sha256:$manifest","size":$manifest_size,
  "annotations":{"io.containerd.image.name":"$name","org.opencontainers.image.ref.name":"${name##*:}"}}]}
JSON
echo '{"imageLayoutVersion":"1.0.0"}' >"$work/oci/oci-layout"
pack -C "$work/oci" -cf "$out" oci-layout index.json blobs
