#!/usr/bin/env bash
# Figures of the way by the controller on a real API server; not part of .ci/run.
#
#   bench-controller.sh          both parts
#   bench-controller.sh csr      NodePublishVolume at the driver's socket, against the bare sum of its calls
#   bench-controller.sh load     500 requests at once, and memory with 5,000 objects and pods; six minutes
#
# CONTROLLER is the program that is loaded, by default the static one of the image, which deploy/image.sh builds.
# BENCH is the benchmark's program, by default built as for a release. The machine should be idle.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
controller=${CONTROLLER:-$root/target/$(uname -m)-unknown-linux-gnu/release/certagent}
bench=${BENCH:-}
cd "$root"
[ -x "$controller" ] || bash deploy/image.sh "$root/target/image.tar"
if [ -z "$bench" ]; then
  bench=$(cargo bench --locked -p certagent-tests --bench node --no-run --message-format=json |
    jq -r 'select(.executable != null and .target.name == "node") | .executable')
fi
# shellcheck source=tests/cluster/setup.sh
. "$here/setup.sh"
# shellcheck source=tests/cluster/controller.sh
. "$here/controller.sh"
start_lab >"$work/output"
{
  without_pods
  objects 86400 | k apply -f -
  k apply -f - <<'YAML'
apiVersion: v1
kind: Node
metadata: {name: bench-node}
YAML
  mkdir "$work/clients"
  cp "$STATE/pki/admin.kubeconfig" "$work/clients/admin"
  kubeconfig_of "$(node_token bench-node)" >"$work/clients/node"
  kubeconfig_of "$(k -n "$ours" create token certagent-controller)" >"$work/clients/controller"
} >>"$work/output"
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(csr load)
for part in "${parts[@]}"; do
  enter env "CERTAGENT_BENCH_CLUSTER=$work/clients" "CERTAGENT_BENCH_CONTROLLER=$controller" "$bench" "$part" --bench
done
