# The library with tonic: new channels, and one that is kept.
# shellcheck shell=bash disable=SC2154  # world.sh sets here, volumes and installed
readonly identity=spiffe://demo-project.svc.id.goog/ns/default/sa

start() {
  serve server "$installed/rust/tonic" server 127.0.0.1:50051 "$volumes/server" "$identity/client"
  await 20 'server' port_open 50051
}

load() {
  "$installed/rust/tonic" client 127.0.0.1:50051 "$volumes/$1" "$identity/server"
}
