#!/usr/bin/env bash
# Figures of the driver on a real node; not part of .ci/run.
#
#   figures.sh [PODS]      from the creation of a pod to Running: with the volume in mode direct and by way
#                          of the controller, with one of a do-nothing driver, and without, in turn; memory
#                          and idle CPU of the driver in mode direct at 0 and at PODS volumes (110)
#
# CERTAGENT is the program, by default target/release/certagent. The machine should be idle.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export CERTAGENT=${CERTAGENT:-$here/../../target/release/certagent}
if [ ! -x "$CERTAGENT" ]; then
  echo "$CERTAGENT is missing: cargo build --locked --release -p certagent" >&2
  exit 1
fi
# shellcheck source=tests/cluster/setup.sh
. "$here/setup.sh"
# shellcheck source=tests/cluster/controller.sh
. "$here/controller.sh"
start_lab
readonly pods=${1:-110} rounds=15 idle=60 direct=direct.csi.test

milliseconds() { echo $(($(date +%s%N) / 1000000)); }
# One creation of a pod, in milliseconds, with what kubectl takes for it. Its driver is the last word.
creation() {
  local begin
  begin=$(milliseconds)
  pod "${@:1:$#-1}" | sed "s/$driver/${*: -1}/" | k apply -f - >/dev/null
  k wait --for=jsonpath='{.status.phase}'=Running --timeout=60s "pod/$1" >/dev/null
  echo $(($(milliseconds) - begin))
}
median() { sort -n | awk '{all[NR] = $1} END {print all[int((NR + 1) / 2)]}'; }

# The driver's processor time in milliseconds, and its memory.
cpu() { enter sh -c 'awk -v hz="$(getconf CLK_TCK)" "{print (\$14 + \$15) * 1000 / hz}" "/proc/$(cat /run/driver.pid)/stat"'; }
memory() { enter sh -c 'grep -E "^(VmRSS|VmHWM):" "/proc/$(cat /run/driver.pid)/status"' | tr -s ' \t\n' ' '; }
files() {
  enter sh -c 'df -k --output=target,used' | awk -v at="$kubelet_root/plugins/$direct/volumes/" \
    'index($1, at) == 1 {sum += $2} END {print sum + 0}'
}
state() {
  local before
  before=$(cpu)
  sleep "$idle"
  echo "$1 volumes: $(memory), $(files) KiB of files, $(($(cpu) - before)) ms of CPU in $idle idle seconds"
}

# One driver in each mode, under a name of its own, and the controller for the one.
without_pods >/dev/null
objects 86400 | k apply -f - >/dev/null
k apply -f - <<YAML >/dev/null
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: $direct, labels: {app.kubernetes.io/part-of: certagent}}
spec: {attachRequired: false, podInfoOnMount: true, volumeLifecycleModes: [Ephemeral], fsGroupPolicy: None}
YAML
kubeconfig_of "$(node_token lab-node)" >"$work/node.kubeconfig"
kubeconfig_of "$(k -n "$ours" create token certagent-controller)" >"$work/controller.kubeconfig"
common=(--kubelet-root "$kubelet_root" --node-name lab-node --trust-domain "$trust_domain")
start driver "$certagent" node "${common[@]}" --driver-name "$direct" --kubeconfig "$STATE/pki/admin.kubeconfig" \
  --ca-endpoint "$emulator" --state-dir /run/certagent-direct --identity none --unsafe-node-identity
start csr-driver "$certagent" node "${common[@]}" --kubeconfig "$work/node.kubeconfig" --state-dir /run/certagent-csr
start controller "$certagent" controller --trust-domain "$trust_domain" --ca-endpoint "$emulator" \
  --kubeconfig "$work/controller.kubeconfig" --state-dir /run/certagent-controller
await 20 'its registration' registered "$direct"
await 20 'its registration' registered
start do-nothing fakecsi -name do-nothing.csi.test -node lab-node
await 20 'its registration' registered do-nothing.csi.test
k apply -f - <<'YAML' >/dev/null
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: do-nothing.csi.test}
spec: {attachRequired: false, podInfoOnMount: true, volumeLifecycleModes: [Ephemeral]}
YAML
for name in "$direct" "$driver"; do
  pod warm | sed "s/$driver/$name/" | k apply -f - >/dev/null
  ready warm >/dev/null
  remove warm >/dev/null
done
state 0

for round in $(seq "$rounds"); do
  creation "with-$round" "$direct" >>"$work/with"
  creation "csr-$round" "$driver" >>"$work/csr"
  creation "nothing-$round" do-nothing.csi.test >>"$work/nothing"
  creation "without-$round" volume=no "$driver" >>"$work/without"
  remove "with-$round" "csr-$round" "nothing-$round" "without-$round" >/dev/null
done
with=$(median <"$work/with") csr=$(median <"$work/csr") nothing=$(median <"$work/nothing") without=$(median <"$work/without")
echo "creation to Running, medians of $rounds: $without ms without a volume," \
  "$nothing ms with a do-nothing driver's, $with ms with a certificate in mode direct, $csr ms by way of the controller"
stop do-nothing

for number in $(seq "$pods"); do pod "many-$number"; done | sed "s/$driver/$direct/" | k apply -f - >/dev/null
begin=$SECONDS
k wait --for=condition=Ready --timeout=600s pod -l of=scenarios >/dev/null
echo "$pods pods at once: ready within $((SECONDS - begin)) s"
state "$pods"
