# What the scenarios are made of. Sourced by setup.sh.
# shellcheck shell=bash
readonly driver=workloadcertificates.security.cloud.google.com
readonly trust_domain=demo-project.svc.id.goog
readonly mount_path=/var/run/secrets/workload-spiffe-credentials
readonly emulator=http://127.0.0.1:8080
readonly sts_audience=//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/mesh/providers/cluster
readonly kubelet_root=/var/lib/kubelet

enter() { "$lab" enter "$@"; }
k() { enter kubectl "$@"; }

fail() {
  echo "$*" >&2
  return 1
}

# Tries a command until it succeeds; nothing but this waits.
await() {
  local seconds=$1 what=$2
  shift 2
  local end=$((SECONDS + seconds))
  until "$@" >"$work/await" 2>&1; do
    if [ "$SECONDS" -ge "$end" ]; then
      cat "$work/await" >&2
      fail "$what: not within $seconds s"
      return
    fi
    sleep 0.2
  done
}

# --- programs inside -------------------------------------------------------------------------

# Starts a program under a name, in the background; its output goes to $work/NAME.log.
start() {
  local name=$1
  shift
  printf '\n--- started: %s\n' "$*" >>"$work/$name.log"
  # shellcheck disable=SC2016
  setsid "$lab" enter sh -c 'echo $$ >"/run/$0.pid"; exec "$@"' "$name" "$@" \
    >>"$work/$name.log" 2>&1 </dev/null &
  await 10 "the start of $name" running "$name"
}

running() { enter sh -c 'kill -0 "$(cat "/run/$0.pid")"' "$1"; }

# Ends it with a signal and waits until it is gone.
stop() {
  # shellcheck disable=SC2016
  enter sh -c 'kill "-$1" "$(cat "/run/$0.pid")"' "$1" "${2:-TERM}"
  await 40 "the end of $1" eval "! running $1"
  enter rm "/run/$1.pid"
}

start_emulator() {
  start emulator "$certagent" emulator --listen "${emulator#http://}" --state /run/emulator "$@"
  await 10 'the emulator' enter curl -fsS "$emulator/emulator/v1/stats"
}

# The kubelet's part of it: the driver is among the node's.
registered() {
  [ "$(k get csinode lab-node -o json | jq --arg name "${1:-$driver}" '[.spec.drivers[]? | select(.name == $name)] | length')" = 1 ]
}

start_driver() {
  # Validities as short as the scenarios want them are refused otherwise.
  start driver env CERTAGENT_LIFT_MINIMUMS=true "$certagent" node --driver-name "$driver" \
    --kubelet-root "$kubelet_root" --node-name lab-node --trust-domain "$trust_domain" \
    --kubeconfig "$STATE/pki/admin.kubeconfig" --ca-endpoint "$emulator" \
    --state-dir /run/certagent-node "$@"
  await 20 'the registration of the driver with the kubelet' registered
}

start_direct_driver() { start_driver --identity none --unsafe-node-identity; }
start_reflected_driver() {
  start_driver --identity reflected --token-audience "$trust_domain" \
    --sts-audience "$sts_audience" --sts-endpoint "$emulator"
}

# --- the emulator ------------------------------------------------------------------------------

stat_of() { enter curl -fsS "$emulator/emulator/v1/stats" | jq -r "$1"; }
sold() { stat_of .soldTotal; }
creates() { stat_of '.requests.CreateCertificate // 0'; }
set_faults() { enter curl -fsS -X POST "$emulator/emulator/v1/faults" -d "{\"rules\": [$1]}" >/dev/null; }
heal() { enter curl -fsS -X DELETE "$emulator/emulator/v1/faults" >/dev/null; }

# --- the configuration -------------------------------------------------------------------------

# The two objects as the emulator prints them, with a validity.
objects() { sed -n "/^apiVersion/,\$s/validityDurationSeconds: .*/validityDurationSeconds: $1/p;/^apiVersion/,\${/validityDurationSeconds: /!p}" "$work/emulator.first"; }
set_validity() {
  k patch workloadcertificateconfig default --type merge \
    -p "{\"spec\": {\"validityDurationSeconds\": $1}}"
}

# --- pods --------------------------------------------------------------------------------------

# A pod as it is written for GKE: NAME [KEY=VALUE...] with
#   readonly=true         of the csi volume
#   fsgroup=GID
#   account=NAME          its service account; default: web
#   volume=no             without the volume
pod() {
  local name=$1 readonly=false fsgroup='' account=web volume=yes setting security
  shift
  for setting in "$@"; do local "${setting%%=*}=${setting#*=}"; done
  security='runAsNonRoot: true, runAsUser: 1337, runAsGroup: 1337'
  [ -z "$fsgroup" ] || security+=", fsGroup: $fsgroup"
  cat <<YAML
---
apiVersion: v1
kind: Pod
metadata: {name: $name, labels: {of: scenarios}}
spec:
  serviceAccountName: $account
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  securityContext: {$security}
  containers:
  - name: app
    image: cluster.local/busybox:1
    imagePullPolicy: Never
    command: [sleep, "1000000"]
YAML
  [ "$volume" = yes ] || return 0
  cat <<YAML
    volumeMounts:
    - {name: gke-workload-certificates, mountPath: $mount_path, readOnly: $readonly}
  volumes:
  - name: gke-workload-certificates
    csi: {driver: $driver, readOnly: $readonly}
YAML
}

create() { pod "$@" | k apply -f -; }
ready() { k wait --for=condition=Ready --timeout="${2:-60}s" "pod/$1"; }
uid_of() { k get pod "$1" -o 'jsonpath={.metadata.uid}'; }
restarts_of() { k get pod "$1" -o 'jsonpath={.status.containerStatuses[0].restartCount}'; }
# The volume of a pod by the pod's uid, as the node sees it.
target() { echo "$kubelet_root/pods/$1/volumes/kubernetes.io~csi/gke-workload-certificates/mount"; }
in_pod() { k exec "$1" -- "${@:2}"; }
seen_by() { in_pod "$1" cat "$mount_path/$2"; }

# Neither the API server nor the node knows the pod any more: NAME UID
gone() { ! k get pod "$1" && [ -z "$(traces "$2")" ]; }
# Deletes pods and waits until the node has forgotten them.
remove() {
  local pod uids=()
  for pod in "$@"; do uids+=("$(uid_of "$pod")"); done
  k delete pod --wait=false "$@"
  for pod in "$@"; do
    await 60 "the end of pod $pod and of its volume" gone "$pod" "${uids[0]}"
    uids=("${uids[@]:1}")
  done
}

# What the node still has of a pod: mounts, directories of kubelet's, tmpfs of ours.
traces() {
  enter sh -c 'grep -F "$1" /proc/self/mountinfo
    ls -d "$2/pods/$1" 2>/dev/null
    grep -lF "$1" "$2/plugins/$3/volumes/"*/record.json 2>/dev/null' sh "$1" "$kubelet_root" "$driver" || true
}
volume_directories() { enter sh -c 'ls -A "$0" 2>/dev/null || true' "$kubelet_root/plugins/$driver/volumes"; }
our_mounts() { enter grep -E "kubernetes\.io~csi|$kubelet_root/plugins/$driver/" /proc/self/mountinfo || true; }

# --- certificates ------------------------------------------------------------------------------

serial() { seen_by "$1" certificates.pem | openssl x509 -noout -serial; }
serial_is_not() {
  local now
  now=$(serial "$1")
  [ -n "$now" ] && [ "$now" != "$2" ]
}
rotated() {
  local before=$2 seconds=$3
  await "$seconds" "another certificate in pod $1" serial_is_not "$1" "$before"
}

# The mount, the file and the certificate of a running pod; the same as long as nobody touches them.
snapshot() {
  local uid path
  uid=$(uid_of "$1")
  path=$(target "$uid")
  enter sh -c 'grep -F " $0 " /proc/self/mountinfo | cut -d" " -f1,3,4,5,6; stat -L -c "%i %y" "$0/certificates.pem"' "$path"
  serial "$1"
  restarts_of "$1"
}
unchanged() {
  local now
  now=$(snapshot "$1")
  [ "$now" = "$2" ] || fail "pod $1 had
$2
and now has
$now"
}

# Reads all files as the pod's own user, and has OpenSSL judge them.
check_files() {
  local pod=$1 identity=$2 files=$work/files file
  rm -rf "$files"
  mkdir "$files"
  [ "$(in_pod "$pod" id -u)" = 1337 ] || fail "pod $pod does not run as uid 1337"
  for file in certificates.pem private_key.pem ca_certificates.pem trust_bundles.json credential-bundle.pem; do
    seen_by "$pod" "$file" >"$files/$file"
    [ -s "$files/$file" ] || fail "$file is empty in pod $pod"
  done
  local purpose
  for purpose in sslserver sslclient; do
    openssl verify -purpose "$purpose" -CAfile "$files/ca_certificates.pem" \
      -untrusted "$files/certificates.pem" "$files/certificates.pem"
  done
  openssl x509 -in "$files/certificates.pem" -noout -ext subjectAltName | grep -qxF "    URI:$identity" ||
    fail "the certificate of pod $pod is not for $identity alone"
  [ "$(openssl x509 -in "$files/certificates.pem" -noout -pubkey)" = "$(openssl pkey -in "$files/private_key.pem" -pubout)" ] ||
    fail "the key of pod $pod does not fit its certificate"
  cat "$files/private_key.pem" "$files/certificates.pem" | cmp - "$files/credential-bundle.pem" ||
    fail "credential-bundle.pem of pod $pod is not key and chain"
  jq -e --arg domain "$trust_domain" '.trust_domains[$domain].keys | length > 0' "$files/trust_bundles.json" >/dev/null
}

# The options of a mount, sorted, as the kernel has them for whoever comes in by the node.
mount_options() { enter awk -v path="$(target "$1")" '$5 == path {print $6}' /proc/self/mountinfo | tr , '\n' | sort; }
has_options() {
  local uid=$1 option options
  shift
  options=$(mount_options "$uid")
  for option in "$@"; do
    grep -qx "$option" <<<"$options" || fail "the mount of $uid lacks $option: $(tr '\n' ' ' <<<"$options")"
  done
}

# --- what went wrong -----------------------------------------------------------------------------

diagnose() {
  local log
  {
    echo '--- pods'
    k get pods -A -o wide
    echo '--- events'
    k get events -A --sort-by=.lastTimestamp | tail -n 25
    echo '--- CSINode'
    k get csinode lab-node -o 'jsonpath={.spec.drivers}'
    echo
    echo '--- mounts'
    our_mounts
    echo '--- volumes'
    volume_directories
    for log in driver emulator; do
      echo "--- the end of the log of the $log"
      tail -n 20 "$work/$log.log"
    done
    echo '--- the driver as a DaemonSet'
    k -n certagent-system logs daemonset/certagent-node --tail 30
    echo '--- the controller'
    k -n certagent-system get pods -o wide
    k -n certagent-system logs -l app.kubernetes.io/name=certagent-controller --tail 30 --prefix
    k get csr
    k get workloadcertificateconfig,trustconfig -o yaml
    echo '--- the kubelet on volumes'
    grep -iE 'csi|MountVolume|UnmountVolume|plugin' "$STATE/logs/kubelet.log" | tail -n 15
  } 2>&1 || true
}
