#!/usr/bin/env bash
# Every consumer of a volume, proven live: each one runs on a volume with certificates of 60 seconds,
# makes requests all the time, and must not fail one while certificates are rotated.
#
#   run.sh                         all, with EC and with RSA keys, at once
#   run.sh CONSUMER[-ec|-rsa]...   only these
#   run.sh --list                  their names
#
# It needs root, cargo, Go, Maven with a JDK of 17 or newer, Python with venv, and Debian's packages,
# which it installs where they are missing. CERTAGENT is the program (else it is built, with the
# consumers in Rust). What is installed and built is kept in target/consumers; Go's and Maven's own caches are used, too. Logs are kept where
# the last lines say: after a failure, and with KEEP_LOGS=1 always. world.sh is what runs one consumer.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
readonly here root target
# No __pycache__ among the sources.
export PYTHONDONTWRITEBYTECODE=1
export INSTALLED=$target/consumers
readonly packages=(postgresql-15 curl openssl iproute2 util-linux)

all=()
for consumer in "$here"/*/consumer.sh; do
  consumer=$(basename "$(dirname "$consumer")")
  all+=("$consumer-ec" "$consumer-rsa")
done
readonly all

main() {
  if [ "${1:-}" = --list ]; then
    printf '%s\n' "${all[@]}"
    return
  fi
  local wanted=() name
  for name in "$@"; do
    if [[ " ${all[*]} " == *" $name "* ]]; then
      wanted+=("$name")
    elif [[ " ${all[*]} " == *" $name-ec "* ]]; then
      wanted+=("$name-ec" "$name-rsa")
    else
      echo "$name is no consumer; run.sh --list prints them" >&2
      return 2
    fi
  done
  [ $# -gt 0 ] || wanted=("${all[@]}")
  needed
  install_all
  build_rust
  export CERTAGENT PATH=$INSTALLED/python/bin:$PATH
  run "${wanted[@]}"
}

needed() {
  local tool missing=()
  if [ "$(id -u)" != 0 ]; then
    echo 'the consumers run in namespaces of their own, and PostgreSQL as another user: run this as root' >&2
    return 1
  fi
  for tool in apt-get cargo dpkg go java mvn python3; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    echo "missing: ${missing[*]}; the consumers are Debian's, Go's, Java's, Python's and Rust's" >&2
    return 1
  fi
}

# All that can at once. Each prints only what went wrong.
install_all() {
  local pids=() pid begin=$SECONDS part failed=0
  mkdir -p "$INSTALLED"
  for part in debian go java python; do
    "install_$part" >"$INSTALLED/$part.log" 2>&1 &
    pids+=("$!:$part")
  done
  for pid in "${pids[@]}"; do
    if ! wait "${pid%%:*}"; then
      echo "cannot install what is ${pid#*:}'s:" >&2
      tail -n 20 "$INSTALLED/${pid#*:}.log" >&2
      failed=1
    fi
  done
  [ "$failed" = 0 ] || return 1
  echo "installed after $((SECONDS - begin)) s"
}

install_debian() {
  local updated=0 nginx=$INSTALLED/nginx
  if ! dpkg -s "${packages[@]}" >/dev/null 2>&1; then
    apt-get update -q
    updated=1
    # With this run level no service is started.
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}"
  fi
  # Of nginx only the program is wanted, not the service.
  if [ ! -x "$nginx/usr/sbin/nginx" ]; then
    [ "$updated" = 1 ] || apt-get update -q
    rm -rf "$nginx.part"
    mkdir "$nginx.part"
    (cd "$nginx.part" && apt-get download -q -o APT::Sandbox::User=root nginx && dpkg -x nginx_*.deb .)
    rm "$nginx.part"/nginx_*.deb
    rm -rf "$nginx"
    mv "$nginx.part" "$nginx"
  fi
}

install_go() {
  cd "$here"
  GOBIN=$INSTALLED/go CGO_ENABLED=0 go install -trimpath -gcflags=all=-dwarf=false -ldflags '-s -w' ./...
}

install_java() {
  local java=$INSTALLED/java key
  key=$(cat "$here/grpc-java/pom.xml" "$here"/grpc-java/src/main/java/consumers/*.java | sha256sum)
  [ "$(cat "$java/key" 2>/dev/null)" != "$key" ] || return 0
  rm -rf "$java"
  mvn --batch-mode --quiet --file "$here/grpc-java" -Dout="$java" package
  echo "$key" >"$java/key"
}

install_python() {
  local python=$INSTALLED/python
  if ! cmp -s "$here/requirements.txt" "$python/requirements.txt"; then
    python3 -m venv --clear "$python"
    "$python/bin/pip" install --quiet --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$python/"
  fi
}

# The consumers in Rust, and the program unless there is one: at once, so that they share what they
# are built from.
build_rust() {
  local wanted=(-p certagent-consumers) rust=$INSTALLED/rust name
  if [ -z "${CERTAGENT:-}" ]; then
    wanted+=(-p certagent)
    CERTAGENT=$target/debug/certagent
  fi
  (cd "$root" && CARGO_TARGET_DIR=$target cargo build --quiet --locked "${wanted[@]}")
  mkdir -p "$rust"
  for name in rustls tonic; do
    # A new file: the old one may be running elsewhere.
    cp --remove-destination "$target/debug/consumer-$name" "$rust/$name"
  done
}

run() {
  local name pids=() pid passed=0 failed=0 begin=$SECONDS
  LOGS=$(mktemp -d)
  export LOGS
  chmod 0755 "$LOGS"
  # With unshare its whole world ends; it takes no other signal.
  # shellcheck disable=SC2046  # they are numbers
  trap 'kill -KILL $(jobs -p) 2>/dev/null || true' EXIT
  for name in "$@"; do
    "$here/world.sh" "${name%-*}" "${name##*-}" >"$LOGS/$name.verdict" 2>&1 &
    pids+=("$!:$name")
  done
  for pid in "${pids[@]}"; do
    name=${pid#*:}
    if wait "${pid%%:*}"; then
      passed=$((passed + 1))
    else
      failed=$((failed + 1))
      echo "FAILED $name"
    fi
    cat "$LOGS/$name.verdict"
  done
  echo "after $((SECONDS - begin)) s"
  echo "$passed passed, $failed failed"
  if [ "$failed" != 0 ] || [ "${KEEP_LOGS:-}" = 1 ]; then
    echo "the logs: $LOGS"
  else
    rm -r "$LOGS"
  fi
  [ "$failed" = 0 ]
}

main "$@"
