# Scenarios by way of the controller: node driver and controller as the manifests of deploy/ have them. The
# emulator is the only thing that is not as in a cluster.
# shellcheck shell=bash
readonly signer=spiffe.gke.io/spiffe-leaf-signer
readonly ours=certagent-system

# A manifest with its placeholders filled in and this cluster's ends: FILE KIND [ARGUMENT]
fill_in() {
  local file=$1 kind=$2 more='[]'
  [ -z "${3:-}" ] || more="[\"$3\"]"
  sed "s/PROJECT_ID\.svc\.id\.goog/$trust_domain/g" "$root/deploy/$file" >"$work/$file"
  k create --dry-run=client -o json -f "$work/$file" |
    jq --arg kind "$kind" --argjson more "$more" 'if .kind == $kind then .spec.template.spec |= (
        # The emulator listens on the node, on loopback.
        .hostNetwork = ($more != [])
        | .containers[0].args += $more
        | .containers[0].env += [{name: "CERTAGENT_LIFT_MINIMUMS", value: "true"}]
        # Two replicas on one node and its network: no port for both.
        | if $more != [] then .containers[0] |= (
            del(.startupProbe, .livenessProbe, .readinessProbe, .ports)
            | .env |= map(select(.name != "CERTAGENT_ADMIN"))) else . end
      ) else . end' | k apply -f -
}

by_way_of_the_controller_a_pod_gets_its_certificate() {
  local first csr other=''
  if k get pod reflected 2>/dev/null; then other=$(serial reflected); fi
  ctr_import "$image"
  if k get namespace "$ours" 2>/dev/null; then k delete -f "$work/node.yaml" --timeout=60s; fi
  stop emulator
  start_emulator
  k delete csidriver --ignore-not-found "$driver"
  k apply -f "$root/deploy/crds.yaml" -f "$root/deploy/csidriver.yaml"
  k delete workloadcertificateconfig,trustconfig --all
  fill_in node.yaml DaemonSet
  fill_in controller.yaml Deployment "--ca-endpoint=$emulator"
  k -n "$ours" rollout status deployment/certagent-controller --timeout=60s
  k -n "$ours" rollout status daemonset/certagent-node --timeout=60s
  await 20 'the registration of the driver' registered
  objects 3600 | k apply -f -
  await 15 'a certificate configuration that is ready' ready_as workloadcertificateconfig 'WorkloadCertificateConfig is ready'
  await 15 'a trust configuration that is ready' ready_as trustconfig 'TrustConfig is ready'
  [ "$(k get trustconfig default -o json | jq -r '.status.renderedTrustStores[0].trustDomain')" = "$trust_domain" ] ||
    fail 'no roots are rendered'
  create by-controller
  ready by-controller
  check_files by-controller "spiffe://$trust_domain/ns/default/sa/web"
  csr=$(csr_of by-controller)
  # As the guide shows it.
  k get csr --field-selector="spec.signerName=$signer" | grep -E "^$csr .*$signer .*Approved,Issued" ||
    fail "$(k get csr)"
  k get csr "$csr" -o json | jq -e '.status.conditions | length == 1 and (.[0] | .type == "Approved"
    and .status == "True" and .reason == "AutoApproved"
    and .message == "Approved CSR because it is a valid SPIFFE SVID for the correct identity.")' ||
    fail "$(k get csr "$csr" -o yaml)"
  k get csr "$csr" -o json | jq -e '.spec.expirationSeconds == null' >/dev/null
  # It is what the pod has.
  first=$(k get csr "$csr" -o 'jsonpath={.status.certificate}' | base64 -d | openssl x509 -noout -serial)
  [ "$first" = "$(serial by-controller)" ] || fail 'the pod has another certificate'
  echo "figure: alone it took the driver $(issuing_took) ms, key, request, approval, signature and files"
  inspected 'HEALTHY: ' pod default/by-controller
  inspected 'HEALTHY: ' config --cluster
  remove by-controller
  # The pods of the mode before go on in this one.
  if [ -n "$other" ]; then
    rotated reflected "$other" 90
    check_files reflected "spiffe://$trust_domain/ns/default/sa/web"
    [ "$(restarts_of reflected)" = 0 ] || fail 'the pod was restarted'
    remove reflected from-daemonset
  fi
}

# A token of the driver's service account that is bound to a pod on the node: NODE.
node_token() {
  k -n "$ours" get pod "driver-on-$1" >/dev/null 2>&1 || k -n "$ours" apply -f - >&2 <<YAML
apiVersion: v1
kind: Pod
metadata: {name: driver-on-$1}
spec:
  nodeName: $1
  serviceAccountName: certagent-node
  automountServiceAccountToken: false
  tolerations: [{operator: Exists}]
  containers: [{name: none, image: cluster.local/busybox:1, imagePullPolicy: Never, command: [sleep, "1000000"]}]
YAML
  k -n "$ours" create token certagent-node --bound-object-kind Pod --bound-object-name "driver-on-$1"
}

# A kubeconfig with nothing but a token.
kubeconfig_of() {
  cat <<YAML
apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: "https://127.0.0.1:443", certificate-authority: $STATE/pki/ca.pem}}]
users: [{name: user, user: {token: $1}}]
contexts: [{name: lab, context: {cluster: lab, user: user}}]
current-context: lab
YAML
}

# Everything of deploy/ but the pods: processes of this machine are in their place.
without_pods() {
  k apply -f "$root/deploy/crds.yaml" -f "$root/deploy/csidriver.yaml"
  k wait --for=condition=Established --timeout=30s \
    crd/workloadcertificateconfigs.security.cloud.google.com crd/trustconfigs.security.cloud.google.com
  cat "$root/deploy/node.yaml" <(echo ---) "$root/deploy/controller.yaml" >"$work/all.yaml"
  k create --dry-run=client -o json -f "$work/all.yaml" |
    jq 'select(.kind != "DaemonSet" and .kind != "Deployment")' | k apply -f -
}

set_pool() {
  k patch workloadcertificateconfig default --type merge \
    -p "{\"spec\": {\"certificateAuthorityConfig\": {\"certificateAuthorityServiceConfig\": {\"endpointURI\": \"$1\"}}}}"
}

# A report as a person reads it.
inspect() {
  enter sh -c '"$@" || :' sh "$certagent" inspect "$@" --kubeconfig "$STATE/pki/admin.kubeconfig" \
    --trust-domain "$trust_domain"
}
# Its first line: BEGINNING ARGUMENT...
inspected() {
  local wanted=$1 said
  shift
  said=$(inspect "$@")
  [[ $said == "$wanted"* ]] || fail "$said"
}

# Ready as the guide prints it, of what stands in the object now.
ready_as() {
  k get "$1" default -o json | jq -e --arg message "$2" '.metadata.generation as $now
    | .status.conditions[] | select(.type == "Ready") | .status == "True" and .reason == "ConfigReady"
      and .message == $message and .observedGeneration == $now and (.lastTransitionTime | fromdate) > 0'
}
# Not ready for this reason.
not_ready_as() {
  k get "$1" default -o json | jq -e --arg reason "$2" '.metadata.generation as $now
    | .status.conditions[] | select(.type == "Ready")
    | .status == "False" and .reason == $reason and .observedGeneration == $now'
}
condition_of() { k get "$1" default -o json | jq -r '.status.conditions[] | select(.type == "Ready") | .message'; }

csrs() { k get csr --field-selector="spec.signerName=$signer" -o json; }
# The newest request of a pod.
csr_of() {
  csrs | jq -er --arg pod "$1" '[.items[] | select(.metadata.annotations["certagent.dev/pod-name"] == $pod)]
    | sort_by(.metadata.creationTimestamp) | last | .metadata.name'
}
issued() { csrs | jq '[.items[] | select(.status.certificate)] | length'; }

through_the_controller_it_rotates_twice_at_60_s() {
  local first second
  set_validity 60
  create rotating
  ready rotating
  first=$(serial rotating)
  rotated rotating "$first" 60
  second=$(serial rotating)
  rotated rotating "$second" 60
  check_files rotating "spiffe://$trust_domain/ns/default/sa/web"
  # A renewal is no event.
  [ "$(k get events -o json --field-selector involvedObject.name=rotating |
    jq '[.items[] | select(.reason == "CertificateApproved")] | length')" = 1 ] || fail 'renewals are events'
  remove rotating
  set_validity 3600
}

# What is wrong stands at the object, and what was good goes on.
a_bad_object_says_what_is_wrong_and_the_good_one_stays_in_force() {
  set_pool //privateca.googleapis.com/projects/demo-project
  await 15 'its condition' not_ready_as workloadcertificateconfig InvalidEndpointURI
  condition_of workloadcertificateconfig | grep -F 'certificateAuthorityServiceConfig.endpointURI' || fail "$(condition_of workloadcertificateconfig)"
  condition_of workloadcertificateconfig | grep -F 'stays in force' || fail "$(condition_of workloadcertificateconfig)"
  # Also for controllers that come anew, and know nothing but what the objects say.
  k -n "$ours" rollout restart deployment/certagent-controller
  k -n "$ours" rollout status deployment/certagent-controller --timeout=60s
  create meanwhile
  ready meanwhile
  remove meanwhile
  objects 3600 | k apply -f -
  await 15 'its recovery' ready_as workloadcertificateconfig 'WorkloadCertificateConfig is ready'
  # What only CA Service knows.
  set_pool //privateca.googleapis.com/projects/demo-project/locations/us-central1/caPools/no-such-pool
  await 15 'its condition' not_ready_as workloadcertificateconfig PoolNotFound
  condition_of workloadcertificateconfig | grep -F no-such-pool || fail "$(condition_of workloadcertificateconfig)"
  objects 3600 | k apply -f -
  await 15 'its recovery' ready_as workloadcertificateconfig 'WorkloadCertificateConfig is ready'
  # The definition itself refuses what it can.
  ! k patch workloadcertificateconfig default --type merge -p '{"spec": {"keyAlgorithm": {"rsa": {"modulusSize": 2048}}}}' ||
    fail 'two key algorithms were taken'
}

rotate_after() { k annotate --overwrite workloadcertificateconfig default "certagent.dev/rotate-after=$1"; }
warned_of() {
  k get workloadcertificateconfig default -o json | jq -e --arg reason "$1" \
    '.status.conditions[] | select(.type == "Warning") | .status == "True" and .reason == $reason'
}

an_annotation_renews_everything_ahead_of_its_time() {
  local first second
  create early
  ready early
  first=$(serial early)
  rotate_after "$(date --utc --date='1 second' +%Y-%m-%dT%H:%M:%SZ)/3s"
  rotated early "$first" 30
  second=$(serial early)
  inspect config --cluster | grep -F '1 of 1 volume renewed or issued since, according to 1 driver' ||
    fail "$(inspect config --cluster)"
  # Nothing is renewed twice, and what cannot be read does nothing.
  rotate_after soon
  await 15 'a warning' warned_of InvalidRotateAfter
  ready_as workloadcertificateconfig 'WorkloadCertificateConfig is ready'
  k annotate workloadcertificateconfig default certagent.dev/rotate-after-
  [ "$(serial early)" = "$second" ] || fail 'it was renewed again'
  remove early
}

# WRITE_GOLDEN=1 writes down what is so now.
what_driver_and_controller_may_do_is_what_stands_here() {
  local account
  for account in certagent-node certagent-controller; do
    k auth can-i --list --as "system:serviceaccount:$ours:$account" -n "$ours" |
      sed 's/  */ /g; s/ $//' | LC_ALL=C sort >"$work/rights"
    [ -z "${WRITE_GOLDEN:-}" ] || cp "$work/rights" "$here/golden/$account.rights"
    diff -u "$here/golden/$account.rights" "$work/rights" || fail "$account may do something else"
  done
}

while_the_ca_is_away_the_request_waits_and_heals() {
  local before
  before=$(($(sold) - $(issued)))
  set_faults '{"fault": "error", "code": "UNAVAILABLE"}'
  create outage
  await 30 'the word of the controller' says_why outage PoolUnreachable
  inspected 'PROBLEM: ' pod default/outage
  heal
  ready outage 90
  check_files outage "spiffe://$trust_domain/ns/default/sa/web"
  [ "$(($(sold) - $(issued)))" = "$before" ] || fail "sold $(sold), in requests $(issued), before that $before more"
  remove outage
}
says_why() {
  k get csr "$(csr_of "$1")" -o json | jq -e --arg reason "$2" '.status.conditions[]
    | select(.type == "Issued") | .status == "False" and .reason == $reason'
}

# It stops while five certificates are signed, for longer than a Lease lasts.
while_the_api_server_is_away_requests_wait_and_heal() {
  local before asked number server
  before=$(($(sold) - $(issued)))
  asked=$(creates)
  set_faults '{"fault": "latency", "delayMillis": 4000, "on": "CreateCertificate"}'
  for number in $(seq 5); do pod "cut-off-$number"; done | k apply -f -
  await 30 'the requests for their certificates' more_creates_than $((asked + 4))
  server=$(enter pgrep -xf '.*/kube-apiserver .*')
  enter kill -STOP "$server"
  sleep 16
  heal
  enter kill -CONT "$server"
  k wait --for=condition=Ready --timeout=120s pod $(seq -f 'cut-off-%g' 5)
  for number in $(seq 5); do check_files "cut-off-$number" "spiffe://$trust_domain/ns/default/sa/web"; done
  [ "$(($(sold) - $(issued)))" = "$before" ] || fail "sold $(sold), in requests $(issued), before that $before more"
  remove $(seq -f 'cut-off-%g' 5)
}

the_controller_is_killed_while_it_signs_and_the_other_takes_over() {
  local before asked leader
  before=$(($(sold) - $(issued)))
  asked=$(creates)
  set_faults '{"fault": "latency", "delayMillis": 3000, "on": "CreateCertificate"}'
  create handed-over
  await 30 'the request for its certificate' more_creates_than "$asked"
  leader=$(leader)
  k -n "$ours" delete pod "$leader" --force --grace-period=0
  await 15 'another leader' another_leader_than "$leader"
  heal
  ready handed-over 60
  [ "$(($(sold) - $(issued)))" = "$before" ] || fail "sold $(sold), in requests $(issued), before that $before more"
  remove handed-over
}
leader() { k -n "$ours" get lease certagent-controller -o 'jsonpath={.spec.holderIdentity}'; }
another_leader_than() { local now; now=$(leader); [ -n "$now" ] && [ "$now" != "$1" ]; }

fifty_pods_at_once_come_through_the_controller() {
  local before number begin
  before=$(sold)
  begin=$(date +%s%N)
  for number in $(seq 50); do pod "crowd-$number"; done | k apply -f - >/dev/null
  k wait --for=condition=Ready --timeout=180s pod $(seq -f 'crowd-%g' 50) >/dev/null
  echo "figure: 50 pods at once by way of the controller are ready after $((($(date +%s%N) - begin) / 1000000)) ms"
  echo "figure: each of them took the driver $(issuing_took) ms on average, key, request, approval, signature and files"
  [ $(($(sold) - before)) = 50 ] || fail "$(($(sold) - before)) certificates were sold for 50 pods"
  k delete pod --wait=false $(seq -f 'crowd-%g' 50) >/dev/null
  await 120 'the end of their volumes' no_volumes
}

# Milliseconds from the decision to ask until the certificate is written, by the driver's own metrics.
issuing_took() {
  local address
  address=$(k -n "$ours" get pod -l app.kubernetes.io/name=certagent-node -o 'jsonpath={.items[0].status.podIP}')
  enter curl -fsS "http://$address:9465/metrics" |
    awk '/^certagent_issue_seconds_sum/ {sum = $2} /^certagent_issue_seconds_count/ {count = $2}
      END {printf "%.0f", 1000 * sum / count}'
}

after_the_controller_nothing_is_left() {
  k delete -f "$work/controller.yaml" --timeout=60s
}
