# openssl s_server and s_client. Neither reads a file twice, so both are started for each request.
# shellcheck shell=bash disable=SC2154  # world.sh sets here, volumes and installed
start() { :; }

load() {
  ask_forever timeout 10 bash "$here/openssl/pair.sh" "$volumes/server" "$volumes/$1"
}
