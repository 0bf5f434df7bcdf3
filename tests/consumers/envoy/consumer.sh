# Two Envoys with mTLS between them: files by SDS, and the SPIFFE validator with trust_bundles.json.
# shellcheck shell=bash disable=SC2154  # world.sh sets here, volumes and installed
start() {
  serve server envoy --config-path /etc/envoy/server.yaml --concurrency 1 --disable-hot-restart
  serve client envoy --config-path /etc/envoy/client.yaml --concurrency 1 --disable-hot-restart
  await 20 'server Envoy' port_open 8444
  await 20 'client Envoy' port_open 8080
}

load() {
  python3 "$here/envoy/load.py" "$1"
}
