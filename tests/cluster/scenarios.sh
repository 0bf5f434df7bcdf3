# The scenarios, in their order: each is a function that fails where something is not as it should be.
# shellcheck shell=bash

# The lab itself: a driver that does nothing gets its volume mounted. What fails after this is ours.
the_lab_mounts_a_volume_of_a_do_nothing_driver() {
  start do-nothing fakecsi -name do-nothing.csi.test -node lab-node
  await 20 'its registration' registered do-nothing.csi.test
  k apply -f - <<'YAML'
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: do-nothing.csi.test}
spec: {attachRequired: false, podInfoOnMount: true, volumeLifecycleModes: [Ephemeral]}
YAML
  pod floor | sed "s/$driver/do-nothing.csi.test/" | k apply -f -
  ready floor
  seen_by floor at
  remove floor
  k delete csidriver do-nothing.csi.test
  stop do-nothing
  await 20 'its end in CSINode' eval '! registered do-nothing.csi.test'
}

# The event says what users of GKE know, and applying the objects is all that it takes.
without_a_config_the_pod_waits_and_heals_by_apply_alone() {
  local uid id
  k apply -f "$root/deploy/crds.yaml" -f "$root/deploy/csidriver.yaml"
  k wait --for=condition=Established --timeout=30s \
    crd/workloadcertificateconfigs.security.cloud.google.com crd/trustconfigs.security.cloud.google.com
  start_direct_driver
  create early
  uid=$(uid_of early)
  id=csi-$(printf %s "${uid}gke-workload-certificates" | sha256sum | cut -d' ' -f1)
  await 30 'the event' event_of early "unable to mount volume: store.CreateVolume, err: unable to create volume \"$id\": caPEM is nil (check active WorkloadCertificateConfig)"
  [ -z "$(volume_directories)" ] || fail "a volume that was refused is still there: $(volume_directories)"
  objects 3600 | k apply -f -
  ready early
  [ "$(uid_of early)" = "$uid" ] || fail 'that is another pod'
  check_files early "spiffe://$trust_domain/ns/default/sa/web"
  remove early
}

event_of() {
  k get events --field-selector "reason=FailedMount,involvedObject.name=$1" -o json |
    jq -r '.items[].message' | grep -F "$2"
}

a_pod_of_gke_reads_all_files_as_a_user_without_rights() {
  local pod uid
  create writable
  create readonly readonly=true
  for pod in writable readonly; do
    ready "$pod"
    check_files "$pod" "spiffe://$trust_domain/ns/default/sa/web"
    uid=$(uid_of "$pod")
    enter "$certagent" inspect "$(target "$uid")"
    [ "$(enter stat -c %a "$(target "$uid")")" = 755 ] || fail "the directory's mode: $(enter stat -c %a "$(target "$uid")")"
    [ "$(in_pod "$pod" stat -L -c %a "$mount_path/private_key.pem")" = 444 ] || fail "the key's mode"
  done
  ! in_pod readonly touch "$mount_path/x" || fail 'a read-only volume could be written'
}

# Of the pods before. The container's own view is of no use: runc 1.1 loses the options of
# read-only mounts there.
the_node_has_the_volume_nosuid_nodev_noexec() {
  local uid
  uid=$(uid_of writable)
  has_options "$uid" rw nosuid nodev noexec
  uid=$(uid_of readonly)
  has_options "$uid" ro nosuid nodev noexec
}

# Of the pods before.
inspect_node_says_that_the_driver_works_and_why_it_does_not() {
  local said
  said=$(inspect_node 0)
  grep -q '^HEALTHY: the driver works, with 2 volumes$' <<<"$said" || fail "$said"
  grep -qF "valid: spiffe://$trust_domain/ns/default/sa/web" <<<"$said" || fail "$said"
  grep -qF 'pod default/readonly, uid ' <<<"$said" || fail "$said"
  # The API server does not know of it.
  said=$(inspect_node 1 --driver-name other.example.com)
  grep -q '^PROBLEM: ' <<<"$said" || fail "$said"
  # Nobody says where it is.
  said=$(enter sh -c '"$@" || [ $? = 2 ]' sh "$certagent" inspect node --driver-name "$driver" --output json)
  [ "$(jq -r '.verdict, (.checks[] | select(.id == "credentials") | .outcome)' <<<"$said" | xargs)" = 'UNKNOWN passed' ] ||
    fail "$said"
  stop driver
  said=$(inspect_node 1)
  grep -q '^PROBLEM: the driver does not answer$' <<<"$said" || fail "$said"
  grep -q '2: 2 valid$' <<<"$said" || fail "$said"
  start_direct_driver
  remove writable readonly
}

# Its report, if it ends with this code.
inspect_node() {
  local code=$1 said result=0
  shift
  said=$(enter "$certagent" inspect node --kubeconfig "$STATE/pki/admin.kubeconfig" \
    --node-name lab-node --trust-domain "$trust_domain" "$@") || result=$?
  [ "$result" = "$code" ] || fail "$said"
  printf '%s\n' "$said"
}

with_fs_group_the_files_are_that_groups_alone() {
  local file
  create grouped fsgroup=4711
  ready grouped
  check_files grouped "spiffe://$trust_domain/ns/default/sa/web"
  for file in certificates.pem private_key.pem ca_certificates.pem trust_bundles.json credential-bundle.pem; do
    [ "$(in_pod grouped stat -L -c '%a %u %g' "$mount_path/$file")" = '440 0 4711' ] ||
      fail "$file: $(in_pod grouped stat -L -c '%a %u %g' "$mount_path/$file")"
  done
  [ "$(in_pod grouped stat -c '%a %u %g' "$mount_path")" = '750 0 4711' ] ||
    fail "the directory: $(in_pod grouped stat -c '%a %u %g' "$mount_path")"
  remove grouped
}

a_certificate_of_60_s_rotates_twice_before_the_pods_eyes() {
  local first second third mount uid
  set_validity 60
  create short
  ready short
  uid=$(uid_of short)
  mount=$(enter grep -F " $(target "$uid") " /proc/self/mountinfo)
  first=$(serial short)
  rotated short "$first" 60
  second=$(serial short)
  rotated short "$second" 60
  third=$(serial short)
  [ "$third" != "$first" ] || fail 'the first certificate came back'
  check_files short "spiffe://$trust_domain/ns/default/sa/web"
  [ "$mount" = "$(enter grep -F " $(target "$uid") " /proc/self/mountinfo)" ] || fail 'the mount is another one'
  remove short
  set_validity 3600
}

a_pod_deleted_while_its_certificate_is_issued_leaves_nothing() {
  local uid before
  before=$(creates)
  set_faults '{"fault": "latency", "delayMillis": 5000, "on": "CreateCertificate"}'
  create hasty
  uid=$(uid_of hasty)
  await 30 'the request for its certificate' more_creates_than "$before"
  k delete pod hasty --wait=false
  await 60 'the end of the pod and of its volume' gone hasty "$uid"
  heal
  await 60 'the end of its directory' no_volumes
}

a_driver_that_is_killed_while_it_issues_buys_one_certificate() {
  local before asked
  before=$(sold)
  asked=$(creates)
  set_faults '{"fault": "latency", "delayMillis": 5000, "on": "CreateCertificate"}'
  create waiting
  await 30 'the request for its certificate' more_creates_than "$asked"
  stop driver KILL
  start_direct_driver
  heal
  ready waiting
  [ "$(sold)" = $((before + 1)) ] || fail "$(($(sold) - before)) certificates were sold for one pod"
  remove waiting
}

more_creates_than() { [ "$(creates)" -gt "$1" ]; }
no_volumes() { [ -z "$(volume_directories)" ] && [ -z "$(our_mounts)" ]; }

a_driver_that_is_killed_comes_back_and_asks_for_nothing() {
  local before requests pod
  for pod in kept-1 kept-2; do create "$pod"; done
  for pod in kept-1 kept-2; do ready "$pod"; done
  before=$(snapshot kept-1)
  requests=$(creates)
  stop driver KILL
  unchanged kept-1 "$before"
  start_direct_driver
  unchanged kept-1 "$before"
  [ "$(creates)" = "$requests" ] || fail "$(($(creates) - requests)) requests for certificates that are valid"
  # It is registered indeed: a new pod gets its volume, an old one is let go.
  create later
  ready later
  [ "$(creates)" = $((requests + 1)) ] || fail 'one new pod, but not one new request'
  remove later kept-2
}

a_kubelet_that_is_restarted_changes_nothing() {
  local before requests
  before=$(snapshot kept-1)
  requests=$(creates)
  "$lab" kubelet stop
  unchanged_outside kept-1 "$before"
  "$lab" kubelet start
  await 60 'the node' "$lab" enter kubectl wait --for=condition=Ready --timeout=1s node/lab-node
  # It knows the running pods again when a new one gets as far as its volume.
  await 30 'the registration of the driver' registered
  create after
  ready after
  unchanged kept-1 "$before"
  [ "$(creates)" = $((requests + 1)) ] || fail 'one new pod, but not one new request'
  remove after kept-1
}

# Without the kubelet there is no exec: the mount and the file alone.
unchanged_outside() {
  local path now
  path=$(sed -n '1s/.* \(\/var\/[^ ]*\) [^ ]*$/\1/p' <<<"$2")
  now=$(enter sh -c 'grep -F " $0 " /proc/self/mountinfo | cut -d" " -f1,3,4,5,6; stat -L -c "%i %y" "$0/certificates.pem"' "$path")
  [ "$now" = "$(head -n 2 <<<"$2")" ] || fail "pod $1 had
$2
and now, without kubelet,
$now"
}

fifty_pods_at_once_get_fifty_certificates() {
  local before number
  before=$(sold)
  for number in $(seq 50); do pod "many-$number"; done | k apply -f - >/dev/null
  k wait --for=condition=Ready --timeout=180s pod $(seq -f 'many-%g' 50) >/dev/null
  [ $(($(sold) - before)) = 50 ] || fail "$(($(sold) - before)) certificates were sold for 50 pods"
  # shellcheck disable=SC2016
  [ "$(enter sh -c 'for f in "$0"/pods/*/volumes/kubernetes.io~csi/*/mount/certificates.pem; do openssl x509 -in "$f" -noout -serial; done | sort -u | wc -l' "$kubelet_root")" = 50 ] ||
    fail 'they are not 50 different ones'
  k delete pod --wait=false $(seq -f 'many-%g' 50) >/dev/null
  await 120 'the end of their volumes' no_volumes
}

# From here on each pod asks with its own token, and the emulator knows who may ask for what.
in_reflected_mode_a_pod_gets_its_own_identity() {
  stop driver
  stop emulator
  identities >"$work/identities.yaml"
  start_emulator --identities "$work/identities.yaml"
  k delete csidriver "$driver"
  sed "s/PROJECT_ID\.svc\.id\.goog/$trust_domain/g" "$root/deploy/csidriver-reflected.yaml" | k apply -f -
  start_reflected_driver
  set_validity 60
  k create serviceaccount other
  create reflected
  create another account=other
  ready reflected
  ready another
  check_files reflected "spiffe://$trust_domain/ns/default/sa/web"
  check_files another "spiffe://$trust_domain/ns/default/sa/other"
  remove another
}

# The keys and the issuer of this cluster as those of a provider.
identities() {
  local members="principalSet:${sts_audience%/providers/*}/*"
  cat <<YAML
providers:
- audience: $sts_audience
  issuer: $(k get --raw /.well-known/openid-configuration | jq .issuer)
  trustDomain: $trust_domain
  allowedAudiences: [$trust_domain]
  jwks: $(k get --raw /openid/v1/jwks)
bindings:
- {role: roles/privateca.poolReader, members: ["$members"]}
- {role: roles/privateca.workloadCertificateRequester, members: ["$members"]}
YAML
}

# Tokens are kept nowhere: after its restart the driver has none until the kubelet publishes again.
it_is_renewed_with_the_token_that_the_kubelet_brings_again() {
  local before
  before=$(serial reflected)
  stop driver KILL
  start_reflected_driver
  rotated reflected "$before" 60
  check_files reflected "spiffe://$trust_domain/ns/default/sa/web"
}

# The pod of before goes on through all of it.
the_driver_as_a_daemonset_is_rolled_out_anew_while_a_pod_runs() {
  local mount uid before gap
  ctr_import "$image"
  uid=$(uid_of reflected)
  mount=$(enter grep -F " $(target "$uid") " /proc/self/mountinfo)
  stop driver
  roll_out
  create from-daemonset
  ready from-daemonset
  k -n certagent-system delete daemonset certagent-node --timeout=60s
  k -n certagent-system wait --for=delete pod -l app.kubernetes.io/name=certagent-node --timeout=60s
  check_files reflected "spiffe://$trust_domain/ns/default/sa/web"
  roll_out
  before=$(serial reflected)
  rotated reflected "$before" 60
  check_files reflected "spiffe://$trust_domain/ns/default/sa/web"
  [ "$mount" = "$(enter grep -F " $(target "$uid") " /proc/self/mountinfo)" ] || fail 'the mount is another one'
  [ "$(restarts_of reflected)" = 0 ] || fail 'the pod was restarted'
  # By nothing but what the manifest says. The other pod's token comes when the kubelet brings it.
  await 120 'a healthy node' in_the_driver inspect node
  gap=$(gap_of_an_update)
  echo "figure: an update of the DaemonSet leaves the node without a driver for $gap ms"
  await 20 'the registration of the updated driver' registered
}

# Milliseconds in which nobody listens at the driver's socket while the DaemonSet is rolled out anew.
gap_of_an_update() {
  local watcher
  enter python3 -c '
import os, socket, sys, time
path, updated = sys.argv[1:]
longest, gone = 0.0, None
while gone is not None or not os.path.exists(updated):
    now = time.monotonic()
    try:
        with socket.socket(socket.AF_UNIX) as client: client.connect(path)
        longest, gone = max(longest, now - (gone or now)), None
    except OSError:
        gone = gone or now
    time.sleep(0.005)
print(round(longest * 1000))' "$kubelet_root/plugins/$driver/csi.sock" "$work/updated" >"$work/gap" &
  watcher=$!
  k -n certagent-system rollout restart daemonset/certagent-node >&2
  k -n certagent-system rollout status daemonset/certagent-node --timeout=90s >&2
  touch "$work/updated"
  wait "$watcher"
  cat "$work/gap"
}

in_the_driver() { k -n certagent-system exec daemonset/certagent-node -- /certagent "$@" | grep '^HEALTHY: '; }

ctr_import() { enter ctr -n k8s.io images import "$1"; }

# deploy/node.yaml for the reflected mode, with its placeholders filled in, and this cluster's ends.
roll_out() {
  sed -e 's/# reflected: //' -e "s/PROJECT_ID\.svc\.id\.goog/$trust_domain/g" \
    -e 's/PROJECT_NUMBER/123/; s/\/POOL\//\/mesh\//; s/\/PROVIDER$/\/cluster/' "$root/deploy/node.yaml" >"$work/node.yaml"
  k create --dry-run=client -o json -f "$work/node.yaml" |
    jq --arg emulator "$emulator" 'if .kind == "DaemonSet" then .spec.template.spec |= (
        # The emulator listens on the node, on loopback.
        .hostNetwork = true
        | .containers[0].args += ["--ca-endpoint=" + $emulator, "--sts-endpoint=" + $emulator]
        | .containers[0].env += [{name: "CERTAGENT_LIFT_MINIMUMS", value: "true"}]
      ) else . end' | k apply -f -
  k -n certagent-system rollout status daemonset/certagent-node --timeout=90s
  await 20 'the registration of the driver' registered
}

after_the_last_pod_nothing_is_left() {
  k delete pod -l of=scenarios --timeout=60s
  await 60 'the end of all volumes' no_volumes
  if k -n certagent-system get daemonset certagent-node 2>/dev/null; then
    k delete -f "$work/node.yaml" --timeout=60s
  else
    stop driver
  fi
  await 30 'the end of the driver in CSINode' eval '! registered'
  # The emulator is ours, but not the driver's.
  stop emulator
  ! enter pgrep -a certagent || fail 'these processes are left'
}
