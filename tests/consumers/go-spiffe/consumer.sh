# go-spiffe: our files parsed by its parsers, and its mTLS fed by them.
# shellcheck shell=bash disable=SC2154  # world.sh sets here, volumes and installed
start() { :; } # server and client are one program

load() {
  "$installed/go/go-spiffe" "$volumes/server" "$volumes/$1"
}
