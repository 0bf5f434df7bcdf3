#!/usr/bin/env bash
# One consumer in a world of its own: network, mounts and processes that end with this script. So every
# consumer uses the ports and paths of its page, and its files as they stand in the page.
#
#   world.sh CONSUMER ec|rsa      as root; run.sh says what must be installed before
#
# In it: the emulator, `certagent run` for the Workloads of the consumer, and the consumer itself,
# which is CONSUMER/consumer.sh:
#
#   start                starts its servers with `serve`, and returns when they answer
#   load WHO [VOLUMES]   asks for ever as `client` or `stranger`, and prints the lines that count.py
#                        counts; only where slow=1 it is given another directory of volumes
#
# First every request must succeed until each side has shown three certificates. Then a stranger, whose
# certificate is as good, must be refused. Then the agent is ended, and requests must fail when the last
# certificate has expired: so the count can fail.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
readonly here
# shellcheck disable=SC2034  # the consumers use them
readonly volumes=/run/workload-certificates installed=${INSTALLED:?run.sh sets it}
readonly certagent=${CERTAGENT:?the program; run.sh sets it} logs=${LOGS:?run.sh sets it}
readonly consumer=$1 algorithm=$2
readonly name=$consumer-$algorithm

if [ "${3:-}" != inside ]; then
  exec unshare --net --mount --pid --fork --kill-child --mount-proc "$0" "$consumer" "$algorithm" inside
fi

# Starts a program in the background, with its output in a log: serve LOG PROGRAM ARGUMENT...
serve() {
  local log=$logs/$name.$1.log
  shift
  "$@" >"$log" 2>&1 </dev/null &
}

# Waits until a command succeeds: await SECONDS WHAT COMMAND...
await() {
  local seconds=$1 what=$2 end=$((SECONDS + $1))
  shift 2
  until "$@" >/dev/null 2>&1; do
    if [ "$SECONDS" -ge "$end" ]; then
      echo "$name: no $what after $seconds s; the logs: $logs/$name.*" >&2
      return 1
    fi
    sleep 0.1
  done
}

port_open() {
  # shellcheck disable=SC2188  # to open it is all
  (: <"/dev/tcp/127.0.0.1/$1")
}

# For loads that are a command for each request, which prints the serials: ask_forever COMMAND...
ask_forever() {
  local said
  while sleep 0.2; do
    if said=$("$@" 2>&1); then
      echo "ok $said"
    else
      echo "failed ${said//$'\n'/ }"
    fi
  done
}

# The two objects. slow=1 is for consumers that look at the files once a minute.
objects() {
  local key='{ecdsa: {curve: P256}}'
  [ "$algorithm" = ec ] || key='{rsa: {modulusSize: 2048}}'
  local validity=60 window=50
  [ "$slow" = 0 ] || validity=240 window=70
  cat <<EOF
apiVersion: security.cloud.google.com/v1
kind: WorkloadCertificateConfig
metadata: {name: default}
spec:
  certificateAuthorityConfig:
    certificateAuthorityServiceConfig:
      endpointURI: //privateca.googleapis.com/projects/demo-project/locations/us-central1/caPools/issuing-pool
  keyAlgorithm: $key
  validityDurationSeconds: $validity
  rotationWindowPercentage: $window
---
apiVersion: security.cloud.google.com/v1
kind: TrustConfig
metadata: {name: default}
spec:
  trustStores:
  - trustDomain: demo-project.svc.id.goog
    trustAnchors:
    - certificateAuthorityServiceURI: //privateca.googleapis.com/projects/demo-project/locations/us-central1/caPools/root-pool
EOF
}

start_agent() {
  local ca_key=ecdsa-p256 path
  [ "$algorithm" = ec ] || ca_key=rsa-2048
  serve emulator "$certagent" emulator --listen 127.0.0.1:9000 --ca-key-algorithm "$ca_key"
  await 20 'emulator' port_open 9000
  objects >/run/objects.yaml
  sed -nE 's/^ *path: //p' /etc/certagent/workloads.yaml | while read -r path; do
    mkdir -p "$path"
  done
  serve agent "$certagent" run --config /run/objects.yaml /etc/certagent/workloads.yaml \
    --ca-endpoint http://127.0.0.1:9000 --state-dir /run/certagent
  agent=$!
  for path in "$volumes"/*; do
    await 30 "certificate in $path" "$certagent" wait "$path" --timeout 30s
  done
}

ended() { ! kill -0 -- "-$1" 2>/dev/null; }

# Counts what a load prints, and ends the load: counted PHASE FLAG... -- ARGUMENT OF LOAD...
counted() {
  local flags=() pid result=0 lines=$logs/$name.$1.lines
  while [ "$1" != -- ]; do
    flags+=("$1")
    shift
  done
  shift
  mkfifo "$lines.fifo"
  # A group of its own, so that all of the load ends.
  set -m
  load "$@" >"$lines.fifo" 2>"$lines.err" &
  pid=$!
  set +m
  python3 "$here/count.py" "$name" "$logs/$name.agent.log" "$lines" "${flags[@]}" <"$lines.fifo" || result=$?
  kill -- "-$pid" 2>/dev/null || true
  # The next load may want the same port.
  wait "$pid" 2>/dev/null || true
  await 20 'end of the load' ended "$pid"
  rm -f "$lines.fifo"
  [ "$result" = 0 ] || tail -n 5 "$lines.err"
  return "$result"
}

ip link set lo up
mount -t tmpfs -o mode=0755 tmpfs /run
# What stands in CONSUMER/etc is in /etc, for this consumer alone.
mount -t overlay -o "lowerdir=$here/$consumer/etc:/etc" overlay /etc
slow=0
# shellcheck source=/dev/null
. "$here/$consumer/consumer.sh"
start_agent
start
if [ "$slow" = 0 ]; then
  counted rotated -- client
  counted refused -- stranger
  kill "$agent"
  counted expired -- client
else
  # An end would come too late: volumes that nobody renews are tried beside the others.
  mkdir /run/stale
  for volume in "$volumes"/*; do
    cp -rL "$volume" /run/stale/
  done
  failed=0
  counted expired --seconds 360 -- client /run/stale &
  stale=$!
  counted rotated --seconds 420 -- client || failed=1
  counted refused -- stranger || failed=1
  wait "$stale" || failed=1
  exit "$failed"
fi
