#!/usr/bin/env bash
# The guide's own gcloud commands against `certagent emulator --empty`, with nothing but gcloud's
# endpoint overrides set.
#
#   gcloud.sh http://127.0.0.1:PORT
set -euo pipefail
endpoint=${1%/}/
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CLOUDSDK_API_ENDPOINT_OVERRIDES_PRIVATECA=$endpoint
export CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDRESOURCEMANAGER=$endpoint
export CLOUDSDK_API_ENDPOINT_OVERRIDES_SERVICEUSAGE=$endpoint
export CLOUDSDK_AUTH_ACCESS_TOKEN=made-up-token CLOUDSDK_CONFIG=$work/config
export CLOUDSDK_CORE_PROJECT=demo-project CLOUDSDK_CORE_DISABLE_PROMPTS=1
export CLOUDSDK_CORE_DISABLE_USAGE_REPORTING=true CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK=true
readonly location=us-east1 root_pool=td_sec_pool issuing_pool=td-ca-pool
readonly agent=serviceAccount:service-123@container-engine-robot.iam.gserviceaccount.com

ca() { gcloud privateca "$@" --quiet; }
fail() { echo "FAILED: $1" >&2; exit 1; }
# expect WHAT PATTERN COMMAND...: the command works, and its output has a line that matches.
expect() {
  local what=$1 pattern=$2 output
  shift 2
  output=$("$@" 2>&1) || { printf '%s\n' "$output" >&2; fail "$what"; }
  grep -qE -- "$pattern" <<<"$output" || { printf '%s\n' "$output" >&2; fail "$what: nothing matches $pattern"; }
  echo "ok: $what"
}
# refused WHAT PATTERN COMMAND...: the command fails, and says so in a line that matches.
refused() {
  local what=$1 pattern=$2 output
  shift 2
  if output=$("$@" 2>&1); then fail "$what was not refused"; fi
  grep -qE -- "$pattern" <<<"$output" || { printf '%s\n' "$output" >&2; fail "$what: nothing matches $pattern"; }
  echo "ok: $what is refused: $(grep -E 'ERROR' <<<"$output" | head -n 1)"
}

expect 'locations list' "$location" ca locations list
expect 'a project binding' 'roles/privateca.caManager' gcloud projects add-iam-policy-binding demo-project \
  --member=user:a@example.com --role=roles/privateca.caManager
expect 'the root pool' 'Created CA Pool' ca pools create $root_pool --location $location --tier enterprise
expect 'the root CA' 'Created Certificate Authority' ca roots create pkcs2-ca --pool $root_pool \
  --subject 'CN=pkcs2-ca, O=TestCorpLLC' --key-algorithm ec-p256-sha256 --max-chain-length 1 --location $location --auto-enable
expect 'a second root CA, staged' 'Created Certificate Authority' ca roots create pkcs3-ca --pool $root_pool \
  --subject 'CN=pkcs3-ca, O=TestCorpLLC' --key-algorithm ec-p384-sha384 --max-chain-length 1 --location $location
expect 'roots enable' 'Enabled Root CA' ca roots enable pkcs3-ca --pool $root_pool --location $location
expect 'the issuing pool' 'Created CA Pool' ca pools create $issuing_pool --location $location --tier devops
expect 'the subordinate CA, activated by the root pool' 'Created Certificate Authority' ca subordinates create td-ca \
  --pool $issuing_pool --location $location --issuer-pool $root_pool --issuer-location $location \
  --subject 'CN=td-ca, O=TestCorpLLC' --key-algorithm ec-p256-sha256 --use-preset-profile subordinate_mtls_pathlen_0 --auto-enable
expect 'the root pool is bound' 'roles/privateca.auditor' ca pools add-iam-policy-binding $root_pool --location $location \
  --role roles/privateca.auditor --member "$agent"
expect 'the issuing pool is bound' 'roles/privateca.certificateManager' ca pools add-iam-policy-binding $issuing_pool \
  --location $location --role roles/privateca.certificateManager --member "$agent"
expect 'the binding is read back' "$agent" ca pools get-iam-policy $issuing_pool --location $location

expect 'subordinates describe' 'algorithm: EC_P256_SHA256' ca subordinates describe td-ca --pool $issuing_pool --location $location
expect 'subordinates describe: enabled' 'state: ENABLED' ca subordinates describe td-ca --pool $issuing_pool --location $location
expect 'roots describe' 'type: SELF_SIGNED' ca roots describe pkcs2-ca --pool $root_pool --location $location
expect 'pools describe' 'tier: DEVOPS' ca pools describe $issuing_pool --location $location
expect 'pools list' $issuing_pool ca pools list --location $location
expect 'roots list' 'pkcs3-ca' ca roots list --location $location
expect 'subordinates list' 'td-ca' ca subordinates list --location $location
expect 'a subordinate CA that somebody else is to sign' 'Created Certificate Authority' ca subordinates create td-ca2 \
  --pool $issuing_pool --location $location --create-csr --csr-output-file "$work/sub.csr" --subject 'CN=td-ca2, O=TestCorpLLC' \
  --key-algorithm ec-p256-sha256 --use-preset-profile subordinate_mtls_pathlen_0
openssl req -in "$work/sub.csr" -noout -verify || fail 'openssl verifies the CSR'
expect 'subordinates get-csr' 'BEGIN CERTIFICATE REQUEST' ca subordinates get-csr td-ca2 --pool $issuing_pool --location $location

openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/key.pem" -subj /CN=demo -out "$work/csr.pem" 2>/dev/null
expect 'a certificate from a CSR' 'Created Certificate' ca certificates create c1 --issuer-pool $issuing_pool \
  --issuer-location $location --csr "$work/csr.pem" --cert-output-file "$work/chain.pem" --validity P1D
expect 'the roots of the pool' '' ca pools get-ca-certs $issuing_pool --location $location --output-file "$work/cas.pem"
openssl verify -CAfile "$work/cas.pem" -untrusted "$work/chain.pem" "$work/chain.pem" || fail 'openssl verifies the certificate'
expect 'a certificate of the named CA' 'Created Certificate' ca certificates create c2 --issuer-pool $issuing_pool \
  --issuer-location $location --ca td-ca --csr "$work/csr.pem" --cert-output-file "$work/c2.pem"
expect 'a certificate of an ENTERPRISE pool' 'Created Certificate' ca certificates create c3 --issuer-pool $root_pool \
  --issuer-location $location --csr "$work/csr.pem" --cert-output-file "$work/c3.pem"
expect 'a certificate with a key that gcloud makes' 'Created Certificate' ca certificates create c4 --issuer-pool $root_pool \
  --issuer-location $location --generate-key --key-output-file "$work/made.pem" --dns-san a.example.com \
  --subject CN=a --use-preset-profile leaf_mtls --cert-output-file "$work/c4.pem"
openssl x509 -in "$work/c4.pem" -noout -text | grep -q 'DNS:a.example.com' || fail 'the DNS name is in the certificate'
expect 'certificates describe' 'pemCertificate:' ca certificates describe c3 --issuer-pool $root_pool --issuer-location $location
expect 'certificates list' 'c3' ca certificates list --issuer-pool $root_pool --location $location
expect 'certificates revoke' 'Revoked certificate' ca certificates revoke --certificate c3 --issuer-pool $root_pool \
  --issuer-location $location --reason key_compromise
expect 'subordinates disable' 'Disabled Subordinate CA' ca subordinates disable td-ca --pool $issuing_pool --location $location
refused 'a pool whose only CA is disabled' 'FAILED_PRECONDITION' ca certificates create c5 --issuer-pool $issuing_pool \
  --issuer-location $location --csr "$work/csr.pem" --cert-output-file "$work/c5.pem"
expect 'subordinates enable' 'Enabled Subordinate CA' ca subordinates enable td-ca --pool $issuing_pool --location $location
expect 'roots disable' 'Disabled Root CA' ca roots disable pkcs3-ca --pool $root_pool --location $location

refused 'a pool that does not exist' 'NOT_FOUND' ca pools describe nosuch --location $location
refused 'a pool for the second time' 'ALREADY_EXISTS|already exists' ca pools create $root_pool --location $location --tier enterprise
refused 'reading a certificate of a DEVOPS pool' 'FAILED_PRECONDITION' ca certificates describe c1 --issuer-pool $issuing_pool \
  --issuer-location $location
echo "the guide's gcloud commands work against the emulator"
