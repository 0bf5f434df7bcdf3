# Each rule of the two objects broken by `kubectl apply`: the API server says so where the definition can, and the
# condition where it cannot. And objects that are another installation's.
# shellcheck shell=bash

# One of the two objects, changed by jq: KIND CHANGE
changed() { objects 86400 | k create --dry-run=client -o json -f - | jq --arg kind "$1" "select(.kind == \$kind) | $2"; }

# The API server does not take it: WORDS KIND CHANGE
not_applied() {
  ! changed "$2" "$3" | k apply -f - 2>"$work/refusal" || fail "the API server took $3"
  grep -F "$1" "$work/refusal" || fail "$(cat "$work/refusal")"
}

# It is taken, and its condition has this reason and names the field: REASON FIELD KIND CHANGE
said_of() {
  changed "$3" "$4" | k apply -f -
  await 15 "the condition $1" not_ready_as "$3" "$1"
  condition_of "$3" | grep -F "$2" || fail "$(condition_of "$3")"
}

has_warning() {
  k get workloadcertificateconfig default -o json | jq -e --arg reason "$1" '.metadata.generation as $now
    | .status.conditions[] | select(.type == "Warning") | .status == "True" and .reason == $reason and .observedGeneration == $now'
}

each_rule_of_the_objects_is_said_where_people_look() {
  local certificates=WorkloadCertificateConfig trust=TrustConfig
  local service=.spec.certificateAuthorityConfig.certificateAuthorityServiceConfig store='.spec.trustStores[0]'
  local pool=//privateca.googleapis.com/projects/demo-project/locations/us-central1/caPools/issuing-pool
  # The least validity counts here.
  k -n "$ours" set env deployment/certagent-controller CERTAGENT_LIFT_MINIMUMS-
  k -n "$ours" rollout status deployment/certagent-controller --timeout=60s

  not_applied 'only the object named default counts' $certificates '.metadata.name = "other"'
  not_applied 'only the object named default counts' $trust '.metadata.name = "other"'
  not_applied 'spec: Required value' $certificates 'del(.spec)'
  not_applied 'unknown field "spec.rotationWindowPercentages"' $certificates '.spec.rotationWindowPercentages = 50'
  not_applied 'unknown field "spec.trustDomain"' $certificates '.spec.trustDomain = "demo"'
  not_applied 'must be of type integer' $certificates '.spec.rotationWindowPercentage = "50"'
  not_applied 'exactly one issuing configuration must be set' $certificates '.spec.certificateAuthorityConfig.meshCAConfig = {}'
  not_applied 'exactly one issuing configuration must be set' $certificates '.spec.certificateAuthorityConfig = {}'
  not_applied 'endpointURI: Required value' $certificates "del($service.endpointURI)"
  not_applied 'exactly one of rsa and ecdsa must be set' $certificates '.spec.keyAlgorithm = {}'
  not_applied 'supported values: "P256", "P384"' $certificates '.spec.keyAlgorithm = {ecdsa: {curve: "P521"}}'
  not_applied 'supported values: "2048", "3072", "4096"' $certificates '.spec.keyAlgorithm = {rsa: {modulusSize: 1024}}'
  not_applied 'less than or equal to 315360000' $certificates '.spec.validityDurationSeconds = 315360001'
  not_applied 'less than or equal to 99' $certificates '.spec.rotationWindowPercentage = 100'
  not_applied 'greater than or equal to 1' $certificates '.spec.rotationWindowPercentage = 0'
  not_applied 'should have at least 1 items' $trust '.spec.trustStores = []'
  not_applied 'should have at least 1 items' $trust "$store.trustAnchors = []"
  not_applied 'exactly one of certificateAuthorityServiceURI' $trust "$store.trustAnchors = [{}]"

  said_of InvalidCertificateAuthority spec.certificateAuthorityConfig $certificates '.spec.certificateAuthorityConfig = {meshCAConfig: {}}'
  said_of InvalidEndpointURI certificateAuthorityServiceConfig.endpointURI $certificates "$service.endpointURI = \"issuing-pool\""
  said_of InvalidFallbackURI 'certificateAuthorityServiceConfig.fallbackURIs[0]' $certificates "$service.fallbackURIs = [\"issuing-pool\"]"
  said_of DuplicatePool 'certificateAuthorityServiceConfig.fallbackURIs[0]' $certificates "$service.fallbackURIs = [\"$pool\"]"
  said_of InvalidValidity spec.validityDurationSeconds $certificates '.spec.validityDurationSeconds = 59'
  said_of RotationWindowTooShort spec.rotationWindowPercentage $certificates \
    '.spec.validityDurationSeconds = 60 | .spec.rotationWindowPercentage = 10'
  changed $certificates '.spec.rotationWindowPercentage = 5' | k apply -f -
  await 15 'the warning' has_warning RotationWindowShort
  await 15 'readiness all the same' ready_as workloadcertificateconfig 'WorkloadCertificateConfig is ready'
  said_of InvalidTrustDomain 'spec.trustStores[0].trustDomain' $trust "$store.trustDomain = \"Demo\""
  said_of DuplicateTrustDomain 'spec.trustStores[1].trustDomain' $trust ".spec.trustStores += [$store]"
  said_of InvalidAnchorURI 'trustAnchors[0].certificateAuthorityServiceURI' $trust \
    "$store.trustAnchors = [{certificateAuthorityServiceURI: \"root-pool\"}]"
  said_of InvalidAnchorCertificate 'trustAnchors[0].pemCertificate' $trust "$store.trustAnchors = [{pemCertificate: \"none\"}]"
  said_of InvalidAnchorEndpoint 'trustAnchors[0].spiffeTrustBundleEndpoint' $trust \
    "$store.trustAnchors = [{spiffeTrustBundleEndpoint: \"http://partner.example\"}]"
  said_of MissingTrustDomain "$trust_domain" $trust "$store.trustDomain = \"partner.example\""
  # Neither is used without the other.
  await 15 'the word of the other object' not_ready_as workloadcertificateconfig TrustConfigNotReady
  k delete trustconfig default
  await 15 'the word of the other object' eval 'condition_of workloadcertificateconfig | grep -F "there is no TrustConfig named default"'

  k -n "$ours" set env deployment/certagent-controller CERTAGENT_LIFT_MINIMUMS=true
  objects 3600 | k apply -f -
  k -n "$ours" rollout status deployment/certagent-controller --timeout=60s
  await 30 'their recovery' ready_as workloadcertificateconfig 'WorkloadCertificateConfig is ready'
  await 15 'their recovery' ready_as trustconfig 'TrustConfig is ready'
}

# A second controller or driver, beside those that run, does not start because of an object, and has not
# written to it: OBJECT ITS_VERSION COMMAND ARGUMENT...
refuses_to_start() {
  local object=$1 before=$2 after result=0
  shift 2
  enter timeout 20 "$certagent" "$@" --trust-domain "$trust_domain" --driver-name "$driver" \
    --kubeconfig "$STATE/pki/admin.kubeconfig" >"$work/refusal" 2>&1 || result=$?
  if [ "$result" != 1 ] || ! grep -F "$object of another installation" "$work/refusal"; then
    fail "certagent $1 ended with $result: $(cat "$work/refusal")"
  fi
  grep -F -e '--adopt-foreign-objects' "$work/refusal" || fail 'no next step'
  after=$(version_of "$object")
  [ "$before" = "$after" ] || fail "$object was written: $before, then $after"
}

# Of an object as messages call it: "KIND NAME"
version_of() { k get "${1% *}" "${1#* }" -o 'jsonpath={.metadata.resourceVersion}'; }

the_objects_of_another_installation_are_left_alone() {
  local object label objects=("CSIDriver $driver"
    'CustomResourceDefinition workloadcertificateconfigs.security.cloud.google.com'
    'CustomResourceDefinition trustconfigs.security.cloud.google.com')
  enter mkdir -p /run/refused-kubelet/pods /run/refused-kubelet/plugins_registry
  for object in "${objects[@]}"; do
    # As another's has it, and as an object that nobody labelled.
    for label in app.kubernetes.io/part-of=other app.kubernetes.io/part-of-; do
      k label --overwrite "${object% *}" "${object#* }" "$label"
      refuses_to_start "$object" "$(version_of "$object")" controller \
        --ca-endpoint "$emulator" --identity none --state-dir /run/refused
      refuses_to_start "$object" "$(version_of "$object")" node \
        --node-name other-node --kubelet-root /run/refused-kubelet
      k label "${object% *}" "${object#* }" app.kubernetes.io/part-of-
    done
    k label "${object% *}" "${object#* }" app.kubernetes.io/part-of=certagent
  done
  # Those that run take nothing back: a pod of theirs still gets its certificate.
  create beside-others
  ready beside-others
  remove beside-others
}
