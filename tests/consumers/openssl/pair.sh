#!/usr/bin/env bash
# One request by mTLS between openssl's own server and client; prints the serials that they saw.
#
#   pair.sh SERVER_VOLUME CLIENT_VOLUME
set -euo pipefail
readonly id=spiffe://demo-project.svc.id.goog/ns/default/sa

server() {
  cd -P "$1/..data"
  openssl s_server -accept 127.0.0.1:8443 -naccept 1 -www \
    -cert certificates.pem -cert_chain certificates.pem -key private_key.pem \
    -Verify 3 -verify_return_error -CAfile ca_certificates.pem
}

client() {
  cd -P "$1/..data"
  openssl s_client -connect 127.0.0.1:8443 -ign_eof \
    -cert certificates.pem -cert_chain certificates.pem -key private_key.pem \
    -verify 3 -verify_return_error -CAfile ca_certificates.pem
}

# Is a volume in order? Prints "certificates.pem: OK".
check() {
  cd -P "$1/..data"
  openssl verify -CAfile ca_certificates.pem -untrusted certificates.pem certificates.pem
}

# Prints the serial of a certificate, if it is for this identity.
serial_of() {
  local names serial
  names=$(openssl x509 -noout -ext subjectAltName <<<"$2" | tail -n 1)
  if [ "${names// /}" != "URI:$id/$1" ]; then
    echo "this is not $1: $names" >&2
    return 1
  fi
  serial=$(openssl x509 -noout -serial <<<"$2")
  echo "${serial#serial=}"
}

# The PEM block with this number in what the client printed.
block() {
  awk -v wanted="$1" '/^-----BEGIN/ { n++ } n == wanted; /^-----END/ && n == wanted { exit }' <<<"$2"
}

coproc listening { server "$1" 2>&1; }
# shellcheck disable=SC2154  # coproc sets it, and takes it away when the server has ended
trap 'kill "${listening_PID:-}" 2>/dev/null || true' EXIT
while read -r line <&"${listening[0]}" && [ "$line" != ACCEPT ]; do :; done
# The server's page prints the client's certificate, after the client has printed the server's.
if ! page=$(printf 'GET / HTTP/1.0\r\n\r\n' | client "$2" 2>&1); then
  grep -E 'error|alert' <<<"$page" | head -n 3 >&2
  exit 1
fi
server=$(serial_of server "$(block 1 "$page")")
client=$(serial_of client "$(block 2 "$page")")
(check "$1" && check "$2") >/dev/null
echo "server=$server client=$client"
