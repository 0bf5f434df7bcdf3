#!/usr/bin/env bash
# Builds certagent's container image without a container engine:
#
#   deploy/image.sh OUT.tar [NAME:TAG]      the name is certagent:dev if none is given
#
# An OCI archive of one layer, FROM scratch: the static program and this machine's CA certificates.
# Load it with `ctr -n k8s.io images import OUT.tar`, `podman load -i`, or `skopeo copy oci-archive:OUT.tar`.
# With CERTAGENT_BINARY set that program is taken and none is built; it must be static.
set -euo pipefail
readonly MAX_BYTES=$((25 * 1000 * 1000))
readonly CERTIFICATES=/etc/ssl/certs/ca-certificates.crt
case $(uname -m) in
  x86_64) readonly ARCHITECTURE=amd64 ;;
  aarch64) readonly ARCHITECTURE=arm64 ;;
  *) echo "image.sh knows no name for the architecture $(uname -m)" >&2; exit 1 ;;
esac
TARGET=$(uname -m)-unknown-linux-gnu
readonly TARGET

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
  sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
out=$(realpath -m -- "$1")
name=${2:-certagent:dev}
cd "$(dirname "$0")/.."

if [[ ! $name =~ ^[a-z0-9][a-z0-9._/:-]*:[A-Za-z0-9_][A-Za-z0-9_.-]*$ ]]; then
  echo "$name is not a name with a tag, such as certagent:dev or registry.example/certagent:1.0" >&2
  exit 2
fi
if [ ! -s "$CERTIFICATES" ]; then
  echo "$CERTIFICATES is missing; on Debian: apt-get install ca-certificates" >&2
  exit 1
fi

binary=${CERTAGENT_BINARY:-}
if [ -z "$binary" ]; then
  # With --target the flags stay off build scripts and macros, which cannot be static.
  RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --release --target "$TARGET" \
    -p certagent --no-default-features
  binary=${CARGO_TARGET_DIR:-target}/$TARGET/release/certagent
fi
# The name of a loader stands at the beginning of a program that needs one.
if head -c 4096 "$binary" | grep -qa 'ld-linux'; then
  echo "$binary is not static; it would not start in an image without libraries" >&2
  exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
blobs=$work/oci/blobs/sha256
mkdir -p "$blobs" "$work/root/etc/ssl/certs"
install -m 0755 "$binary" "$work/root/certagent"
install -m 0644 "$CERTIFICATES" "$work/root$CERTIFICATES"
chmod -R u=rwX,go=rX "$work/root"

# The same files give the same bytes, whoever builds and whenever.
pack() {
  tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=ustar "$@"
}
digest() { sha256sum "$1" | cut -d' ' -f1; }
# Moves a file to the blobs; prints its digest and size as JSON.
blob() {
  local hash size
  hash=$(digest "$1")
  size=$(stat -c %s "$1")
  mv "$1" "$blobs/$hash"
  printf '"digest":"sha256:%s","size":%s' "$hash" "$size"
}

pack -C "$work/root" -cf "$work/layer.tar" .
plain=$(digest "$work/layer.tar")
gzip -n -9 "$work/layer.tar"
layer=$(blob "$work/layer.tar.gz")
printf '{"architecture":"%s","os":"linux","created":"1970-01-01T00:00:00Z","config":{"Entrypoint":["/certagent"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
  "$ARCHITECTURE" "$plain" > "$work/config"
config=$(blob "$work/config")
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json",%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip",%s}]}' \
  "$config" "$layer" > "$work/manifest"
manifest=$(blob "$work/manifest")
# Names are completed as the kubelet does it; containerd takes them whole, others the tag alone.
first=${name%%/*}
if [ "$first" = "$name" ]; then
  full=docker.io/library/$name
elif [[ $first == *[.:]* || $first == localhost ]]; then
  full=$name
else
  full=docker.io/$name
fi
printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",%s,"platform":{"architecture":"%s","os":"linux"},"annotations":{"io.containerd.image.name":"%s","org.opencontainers.image.ref.name":"%s"}}]}' \
  "$manifest" "$ARCHITECTURE" "$full" "${name##*:}" > "$work/oci/index.json"
printf '{"imageLayoutVersion":"1.0.0"}' > "$work/oci/oci-layout"
pack -C "$work/oci" -cf "$work/image.tar" oci-layout index.json blobs

bytes=$(stat -c %s "$work/image.tar")
program=$(stat -c %s "$binary")
echo "$name: $bytes bytes (the program alone, unpacked: $program)"
if [ "$bytes" -gt "$MAX_BYTES" ] || [ "$program" -gt "$MAX_BYTES" ]; then
  echo "larger than $MAX_BYTES bytes; look for what has grown (cargo bloat) before raising the limit" >&2
  exit 1
fi
mkdir -p "$(dirname "$out")"
mv "$work/image.tar" "$out"
echo "$out"
