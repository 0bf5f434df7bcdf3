# go-spiffe: our files parsed by its parsers, and its mTLS fed by them.
start() { :; } # server and client are one program

load() {
  "$installed/go/go-spiffe" "$volumes/server" "$volumes/client"
}
