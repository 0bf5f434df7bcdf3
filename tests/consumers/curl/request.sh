#!/usr/bin/env bash
# One request by mTLS with curl, and one through nginx as a client; prints the serials that were seen.
#
#   request.sh CLIENT_VOLUME
set -euo pipefail

request() {
  cd -P "$1/..data"
  curl --silent --show-error --fail --max-time 5 \
    --cert credential-bundle.pem --cacert ca_certificates.pem \
    --resolve web.example.com:8443:127.0.0.1 https://web.example.com:8443/ "${@:2}"
}

# The server answers with the serial of the client; curl adds the certificates of the server.
answer=$(request "$1" --write-out '%{certs}')
client=$(head -n 1 <<<"$answer")
server=$(sed -nE 's/^Serial Number: *//p' <<<"$answer" | head -n 1)
proxy=$(curl --silent --show-error --fail --max-time 5 http://127.0.0.1:8080/)
echo "server=$server client=$client proxy=$proxy"
