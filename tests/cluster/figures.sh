#!/usr/bin/env bash
# Figures of the driver on a real node; not part of .ci/run.
#
#   figures.sh [PODS]      from the creation of a pod to Running: with the volume, with one of a
#                          do-nothing driver, and without, in turn; memory and idle CPU of the driver
#                          at 0 and at PODS volumes (110)
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
start_lab
readonly pods=${1:-110} rounds=15 idle=60

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
  enter sh -c 'df -k --output=target,used' | awk -v at="$kubelet_root/plugins/$driver/volumes/" \
    'index($1, at) == 1 {sum += $2} END {print sum + 0}'
}
state() {
  local before
  before=$(cpu)
  sleep "$idle"
  echo "$1 volumes: $(memory), $(files) KiB of files, $(($(cpu) - before)) ms of CPU in $idle idle seconds"
}

k apply -f "$root/deploy/crds.yaml" -f "$root/deploy/csidriver.yaml" >/dev/null
k wait --for=condition=Established --timeout=30s \
  crd/workloadcertificateconfigs.security.cloud.google.com crd/trustconfigs.security.cloud.google.com >/dev/null
start_direct_driver
start do-nothing fakecsi -name do-nothing.csi.test -node lab-node
await 20 'its registration' registered do-nothing.csi.test
k apply -f - <<'YAML' >/dev/null
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: do-nothing.csi.test}
spec: {attachRequired: false, podInfoOnMount: true, volumeLifecycleModes: [Ephemeral]}
YAML
objects 86400 | k apply -f - >/dev/null
create warm >/dev/null
ready warm >/dev/null
remove warm >/dev/null
state 0

for round in $(seq "$rounds"); do
  creation "with-$round" "$driver" >>"$work/with"
  creation "nothing-$round" do-nothing.csi.test >>"$work/nothing"
  creation "without-$round" volume=no "$driver" >>"$work/without"
  remove "with-$round" "nothing-$round" "without-$round" >/dev/null
done
with=$(median <"$work/with") nothing=$(median <"$work/nothing") without=$(median <"$work/without")
echo "creation to Running, medians of $rounds: $without ms without a volume," \
  "$nothing ms with a do-nothing driver's, $with ms with the certificate's"
stop do-nothing

for number in $(seq "$pods"); do pod "many-$number"; done | k apply -f - >/dev/null
begin=$SECONDS
k wait --for=condition=Ready --timeout=600s pod -l of=scenarios >/dev/null
echo "$pods pods at once: ready within $((SECONDS - begin)) s"
state "$pods"
