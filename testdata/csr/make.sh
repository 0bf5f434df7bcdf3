#!/usr/bin/env bash
# Makes the certificate requests of this directory anew, with keys that are thrown away.
set -euo pipefail
cd "$(dirname "$0")"
key=$(mktemp)
trap 'rm -f "$key"' EXIT

new_key() { openssl genpkey -quiet -out "$key" -algorithm "$@"; }

# NAME [OPTION...]: a request that is right but for the key and the options.
request() {
  openssl req -new -key "$key" -out "$1.pem" "${@:2}" \
    -subj /CN=3f1c7a52-8d0e-4b6f-9a21-5c4d3e2f1a0b \
    -addext subjectAltName=URI:spiffe://example.org/ns/shop/sa/cart \
    -addext keyUsage=critical,digitalSignature,keyEncipherment \
    -addext extendedKeyUsage=serverAuth,clientAuth
}

for bits in 1024 2047 3072 4096 2048; do
  new_key RSA -pkeyopt "rsa_keygen_bits:$bits"
  request "rsa-$bits" -sha256
done
for hash in md5 sha1 sha384 sha512; do
  request "rsa-2048-$hash" "-$hash"
done
request rsa-2048-pss -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32
new_key RSA -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_pubexp:3
request rsa-2048-e3 -sha256
new_key EC -pkeyopt ec_paramgen_curve:P-256
request ec-p256-sha1 -sha1
new_key EC -pkeyopt ec_paramgen_curve:P-521
request ec-p521 -sha512
new_key ED25519
request ed25519
