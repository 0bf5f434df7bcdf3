# The library with tokio-rustls.
# shellcheck shell=bash disable=SC2154  # world.sh sets here, volumes and installed
readonly identity=spiffe://demo-project.svc.id.goog/ns/default/sa

start() {
  serve server "$installed/rust/rustls" server 127.0.0.1:8443 "$volumes/server" "$identity/client"
  await 20 'server' port_open 8443
}

load() {
  "$installed/rust/rustls" client 127.0.0.1:8443 "$volumes/$1" "$identity/server"
}
