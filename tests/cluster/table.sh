# The approval table by real requests with real tokens, and requests that are none.
# shellcheck shell=bash

# A request as the driver makes it: NAME [KEY=VALUE...] with
#   pod= uid= uri= usages= subject= san= digest=     where it differs
#   key=       ec, or what openssl makes RSA keys of
#   twist=     a filter for the PEM
request() {
  local name=$1 setting pod=web-pod uid='' uri="spiffe://$trust_domain/ns/default/sa/web" subject='' san='' key=ec digest=sha256
  local twist=cat
  local usages='[digital signature, server auth, client auth]'
  shift
  for setting in "$@"; do local "${setting%%=*}=${setting#*=}"; done
  [ -n "$uid" ] || uid=$(uid_of web-pod)
  case $key in
    ec) openssl ecparam -name prime256v1 -genkey -noout -out "$work/$name.key" ;;
    # shellcheck disable=SC2086
    *) openssl genrsa -out "$work/$name.key" $key 2>/dev/null ;;
  esac
  openssl req -new -key "$work/$name.key" -"$digest" -subj "${subject:-/CN=$uid}" \
    -addext "subjectAltName=${san:-URI:$uri}" | "$twist" >"$work/$name.csr"
  cat <<YAML
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: $name, annotations: {certagent.dev/pod-name: $pod}}
spec:
  signerName: $signer
  usages: $usages
  request: $(base64 -w0 "$work/$name.csr")
YAML
}

# --- what may be done to a PEM ------------------------------------------------------------------
with_words_behind_it() { cat && echo 'and something else'; }
twice() { tee "$work/once" && cat "$work/once"; }
of_a_megabyte() { cat && head -c 1000000 /dev/zero | tr '\0' '\n'; }
of_two_megabytes() { of_a_megabyte | of_a_megabyte; }
with_a_byte_in_it_behind_it() {
  echo '-----BEGIN CERTIFICATE REQUEST-----'
  { openssl req -outform DER && printf x; } | base64
  echo '-----END CERTIFICATE REQUEST-----'
}

# Sends it with this token: TOKEN NAME [KEY=VALUE...]
send() {
  local token=$1
  shift
  request "$@" | as "$token" create -f -
}
# kubectl with nothing but a token.
as() {
  local token=$1
  shift
  enter kubectl --kubeconfig /dev/null --server "$(k config view -o 'jsonpath={.clusters[0].cluster.server}')" \
    --certificate-authority "$STATE/pki/ca.pem" --token "$token" "$@"
}
denied_as() { k get csr "$1" -o json | jq -e --arg reason "$2" '.status.conditions[]? | select(.type == "Denied") | .reason == $reason'; }
is_signed() { [ -n "$(k get csr "$1" -o 'jsonpath={.status.certificate}')" ]; }

# Sends one that breaks a rule, and waits for the denial: REASON NAME [KEY=VALUE...]
refused() {
  local reason=$1
  shift
  send "$token" "$@"
  await 10 "the denial of $1" denied_as "$1" "$reason"
}

# The API server itself, or the policy in it, takes no such request and says this: WORDS NAME [KEY=VALUE...]
not_taken() {
  local words=$1
  shift
  ! send "$token" "$@" 2>"$work/refusal" || fail "the API server took $1"
  grep -F "$words" "$work/refusal" || fail "$(cat "$work/refusal")"
}

a_second_node() {
  k apply -f - <<'YAML'
apiVersion: v1
kind: Node
metadata: {name: other-node}
YAML
}

each_rule_of_the_table_is_a_denial_of_its_own() {
  local token other before
  a_second_node
  create web-pod
  ready web-pod
  create bare volume=no
  pod finished | sed 's/\[sleep, "1000000"\]/["true"]/; s/^spec:/spec:\n  restartPolicy: Never/' | k apply -f -
  k wait --for=jsonpath='{.status.phase}'=Succeeded --timeout=60s pod/finished
  ready bare
  k create serviceaccount another 2>/dev/null || true
  before=$(issued)
  token=$(node_token lab-node)
  other=$(node_token other-node)
  # A0 to A12 hold.
  send "$token" table-good
  await 10 'its certificate' is_signed table-good
  # A1 and A2: the policy refuses before anybody is asked.
  request table-a1 | k create -f - 2>"$work/refusal" && fail 'anybody may ask'
  grep -F 'only the service account certagent-node' "$work/refusal" || fail "$(cat "$work/refusal")"
  send "$(k -n "$ours" create token certagent-node)" table-a2 2>"$work/refusal" && fail 'a token without a node may ask'
  grep -F 'does not say on which node' "$work/refusal" || fail "$(cat "$work/refusal")"
  not_taken 'at most 16384 bytes' table-a4-long twist=of_a_megabyte
  # Without the policy the controller says the same.
  k delete validatingadmissionpolicybinding certagent-requests
  await 10 'the end of the policy' without_policy
  await 10 'the denial' denied_as without-policy UnknownRequester
  send "$(k -n "$ours" create token certagent-node)" table-a2
  await 10 'the denial' denied_as table-a2 NoNodeClaim
  refused UsagesNotAllowed table-a3 'usages=[digital signature, client auth]'
  refused BadRequest table-a4-weak key=1024
  refused BadRequest table-a4-sha1 digest=sha1
  refused BadRequest table-a4-exponent 'key=-3 2048'
  refused BadRequest table-a4-words twist=with_words_behind_it
  refused BadRequest table-a4-twice twist=twice
  refused BadRequest table-a4-long twist=of_a_megabyte
  # These do not come as far as to us.
  not_taken 'insecure algorithm MD5-RSA' table-a4-md5 key=2048 digest=md5
  not_taken 'trailing data' table-a4-byte twist=with_a_byte_in_it_behind_it
  not_taken 'request is too large' table-a4-longer twist=of_two_megabytes
  refused NamesNotAllowed table-a5-dns "san=URI:spiffe://$trust_domain/ns/default/sa/web,DNS:web.example"
  refused NamesNotAllowed table-a5-subject "subject=/O=x/CN=$(uid_of web-pod)"
  refused WrongIdentity table-a6 uri=spiffe://other.example/ns/default/sa/web
  refused PodNotFound table-a7 pod=nobody
  refused PodNotFound table-a7-uid uid=00000000-0000-4000-8000-000000000000
  token=$other refused PodOnOtherNode table-a8
  refused WrongServiceAccount table-a9 "uri=spiffe://$trust_domain/ns/default/sa/another"
  refused PodDidNotAsk table-a10 pod=bare "uid=$(uid_of bare)"
  k get events -o json | jq -e '[.items[] | select(.reason == "PodOnOtherNode" and .type == "Warning"
    and .involvedObject.name == "web-pod")] | length == 1' || fail 'the alarm is no event at the pod'
  refused PodFinished table-a11 pod=finished "uid=$(uid_of finished)"
  # Nobody can make a mirror pod that runs as a service account, nor make one of a pod; the row has a unit test.
  pod mirror | sed 's/^metadata: {/&annotations: {kubernetes.io\/config.mirror: x}, /' | k apply -f - 2>"$work/refusal" &&
    fail 'a mirror pod has a service account'
  grep -F 'a mirror pod may not reference service accounts' "$work/refusal" || fail "$(cat "$work/refusal")"
  k annotate pod web-pod kubernetes.io/config.mirror=x 2>"$work/refusal" && fail 'a pod became a mirror pod'
  grep -F 'may not add mirror pod annotation' "$work/refusal" || fail "$(cat "$work/refusal")"
  # Approved by hand is not approved by the rules.
  k delete validatingadmissionpolicy certagent-requests
  signal_controllers STOP
  request by-hand | k create -f -
  k certificate approve by-hand
  signal_controllers CONT
  await 20 'its failure' failed_as by-hand ApprovedButNotValid
  [ "$(issued)" = $((before + 1)) ] || fail "$(csrs | jq -r '.items[] | select(.status.certificate) | .metadata.name')"
  k apply -f "$work/controller-policy.yaml" 2>/dev/null || fill_in controller.yaml Deployment "--ca-endpoint=$emulator"
  k -n "$ours" delete pod driver-on-lab-node driver-on-other-node --force --grace-period=0
  k delete node other-node
  k delete pod finished
  remove web-pod bare
}

# The policy is gone when this one comes through.
without_policy() { request without-policy | k create -f -; }

failed_as() { k get csr "$1" -o json | jq -e --arg reason "$2" '.status.conditions[]? | select(.type == "Failed") | .reason == $reason'; }

# All replicas: SIGNAL
signal_controllers() {
  local pids
  pids=$(enter pgrep -f '^/certagent controller')
  # shellcheck disable=SC2086
  enter kill "-$1" $pids
}

a_pod_that_asks_too_often_waits_and_gets_it_later() {
  local token number
  set_validity 300
  await 15 'a configuration that is ready' ready_as workloadcertificateconfig 'WorkloadCertificateConfig is ready'
  a_second_node
  k apply -f - <<YAML
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  nodeName: other-node
  serviceAccountName: web
  containers: [{name: none, image: cluster.local/busybox:1}]
  volumes: [{name: certificates, csi: {driver: $driver}}]
YAML
  token=$(node_token other-node)
  # Five at once, and one more for each fiftieth of the validity.
  for number in $(seq 7); do
    request "often-$number" pod=greedy "uid=$(uid_of greedy)"
    echo ---
  done | as "$token" create -f -
  await 20 'five certificates' signed_of often 5
  k -n "$ours" logs "$(leader)" | grep -F 'the pod was given several certificates lately' || fail 'none had to wait'
  signed_of often 7 && fail 'none waited'
  await 30 'the other two' signed_of often 7
  csrs | jq -e '[.items[] | select(.metadata.name | startswith("often-")) | .status.conditions[].type] | unique == ["Approved"]' ||
    fail "$(k get csr)"
  k delete pod greedy --force --grace-period=0
  k -n "$ours" delete pod driver-on-other-node --force --grace-period=0
  k delete node other-node
  set_validity 3600
}
# So many requests whose names begin so have certificates.
signed_of() {
  csrs | jq -e --arg name "$1-" --argjson count "$2" '[.items[]
    | select((.metadata.name | startswith($name)) and .status.certificate)] | length >= $count'
}

# Dots, and as long as Kubernetes allows; a kubelet runs no pod of more than 210 letters, for its log's directory.
a_pod_with_the_longest_name_gets_its_certificate() {
  local name csr
  name=$(printf 'a%.0s' $(seq 60)).$(printf 'b%.0s' $(seq 60)).$(printf 'c%.0s' $(seq 60)).$(printf 'd%.0s' $(seq 70))
  [ ${#name} = 253 ] || fail "${#name} letters"
  create "$name"
  await 30 'its request' csr_of "$name"
  csr=$(csr_of "$name")
  await 20 'its certificate' is_signed "$csr"
  await 20 'its volume' enter test -s "$(target "$(uid_of "$name")")/certificates.pem"
  k delete pod "$name" --force --grace-period=0
  name=${name:43}
  create "$name"
  ready "$name"
  check_files "$name" "spiffe://$trust_domain/ns/default/sa/web"
  inspected 'HEALTHY: ' pod "default/$name"
  remove "$name"
}

# Whoever may write to a request cannot make a pod trust what does not lead to its roots.
a_certificate_of_somebody_else_is_refused_by_the_node() {
  local csr
  signal_controllers STOP
  create deceived
  await 30 'its request' csr_of deceived
  csr=$(csr_of deceived)
  k get csr "$csr" -o 'jsonpath={.spec.request}' | base64 -d >"$work/deceived.csr"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/other.key" -out "$work/other.pem" \
    -days 1 -subj /CN=other-ca 2>/dev/null
  openssl x509 -req -in "$work/deceived.csr" -subj / -CA "$work/other.pem" -CAkey "$work/other.key" -CAcreateserial -days 1 \
    -extfile <(
      echo "subjectAltName=critical,URI:spiffe://$trust_domain/ns/default/sa/web"
      echo 'keyUsage=critical,digitalSignature'
      echo 'extendedKeyUsage=serverAuth,clientAuth'
    ) >"$work/deceived.pem"
  k certificate approve "$csr"
  k get csr "$csr" -o json | jq --arg pem "$(base64 -w0 "$work/deceived.pem")" '.status.certificate = $pem' |
    k replace --raw "/apis/certificates.k8s.io/v1/certificatesigningrequests/$csr/status" -f -
  await 30 'the word of the driver' eval "k -n $ours logs daemonset/certagent-node | grep -F other-ca"
  [ "$(k get pod deceived -o 'jsonpath={.status.phase}')" = Pending ] || fail 'the pod runs'
  # Roots may come that it leads to, so the driver looks at it again for a minute; not so if it is gone.
  k delete csr "$csr"
  signal_controllers CONT
  ready deceived 90
  check_files deceived "spiffe://$trust_domain/ns/default/sa/web"
  remove deceived
}
