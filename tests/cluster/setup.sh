# Builds what is missing. start_lab starts the lab with the emulator inside; it is taken down at the end.
# Sourced by run.sh and figures.sh, which set here.
# shellcheck shell=bash
shopt -s inherit_errexit
if [ "$(id -u)" != 0 ]; then
  echo 'a node needs namespaces, mounts and cgroups: run this as root' >&2
  exit 1
fi
root=$(cd "$here/../.." && pwd)
lab=$here/lab.sh
BIN=$("$here/build.sh")
work=$(mktemp -d "${TMPDIR:-/tmp}/certagent-cluster.XXXXXX")
STATE=$work/lab
export BIN STATE
certagent=${CERTAGENT:-}
if [ -z "$certagent" ]; then
  (cd "$root" && cargo build --locked -p certagent)
  certagent=${CARGO_TARGET_DIR:-$root/target}/debug/certagent
fi
certagent=$(realpath "$certagent")
readonly root lab work certagent
# shellcheck source=tests/cluster/support.sh
. "$here/support.sh"

finish() {
  local result=$?
  "$lab" down || result=1
  if [ -n "${mounts_before:-}" ] && [ "$(wc -l </proc/self/mountinfo)" != "$mounts_before" ]; then
    echo 'the lab left mounts on this machine' >&2
    result=1
  fi
  if [ "$result" = 0 ] && [ -z "${KEEP_LOGS:-}" ]; then rm -rf "$work"; else echo "logs: $work"; fi
  exit "$result"
}
trap finish EXIT

start_lab() {
  mounts_before=$(wc -l </proc/self/mountinfo)
  "$lab" up
  start_emulator
  # What it prints first are the two objects; later starts print more.
  cp "$work/emulator.log" "$work/emulator.first"
  k create serviceaccount web
}
