#!/usr/bin/env bash
# One query by mTLS with psql.
#
#   query.sh CLIENT_VOLUME USER SQL
set -euo pipefail

query() {
  cd -P "$1/..data"
  psql "host=db.example.com hostaddr=127.0.0.1 dbname=postgres user=$2
    sslmode=verify-full sslrootcert=ca_certificates.pem
    sslcert=certificates.pem sslkey=private_key.pem" \
    --no-psqlrc --no-align --tuples-only --command "$3"
}

query "$@"
