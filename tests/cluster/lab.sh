#!/usr/bin/env bash
# A real Kubernetes of one node, in private mount, pid, net, uts and ipc namespaces.
#
#   lab.sh up              starts it, and waits until the node is ready
#   lab.sh enter CMD...    runs a command inside: kubectl, ctr, a driver
#   lab.sh root            prints where the files inside are seen from outside
#   lab.sh kubelet stop    and: kubelet start
#   lab.sh down            ends it; nothing is left on the machine but $STATE/logs
#
# BIN is what build.sh printed. STATE is a directory of its own, not below one of $covered.
# Two labs with two STATEs do not meet. SYNC is the kubelet's syncFrequency.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
readonly here
export STATE=${STATE:-${TMPDIR:-/tmp}/certagent-cluster} SYNC=${SYNC:-5s}
export BIN=${BIN:?BIN must be the directory that build.sh printed}
readonly logs=$STATE/logs pki=$STATE/pki
# What labs at the same time have in common. Each holds a shared lock on the directory above.
readonly shared=/run/certagent-cluster
readonly node=lab-node node_ip=172.31.77.1 service_ip=10.96.0.1
group=certagent-cluster-$(printf %s "$STATE" | cksum | cut -d' ' -f1)
readonly group
readonly hierarchies=(cpu cpuacct cpuset memory devices freezer blkio pids systemd)
# The kubelet sets some of these, and they are the whole machine's.
readonly tunables=(vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops
  kernel.keys.root_maxkeys kernel.keys.root_maxbytes)
# A tmpfs covers each of these inside, so that nothing reaches the machine's disk.
readonly covered=(/run /var/log /var/lib/kubelet /var/lib/containerd /var/lib/cni /etc/cni)
readonly controllers=(serviceaccount-controller root-ca-certificate-publisher-controller
  namespace-controller garbage-collector-controller daemonset-controller deployment-controller
  replicaset-controller node-lifecycle-controller taint-eviction-controller
  certificatesigningrequest-cleaner-controller resourcequota-controller clusterrole-aggregation-controller)

# Runs inside; what it starts outlives the caller.
inside() { nsenter -t "$(<"$STATE/pid")" -m -p -n -u -i "$@"; }
background() {
  local log=$logs/$1.log
  shift
  setsid "$@" >>"$log" 2>&1 </dev/null &
}

# Tries a command every 0.1 s until it succeeds.
await() {
  local seconds=$1 what=$2
  shift 2
  local end=$((SECONDS + seconds))
  until "$@" >/dev/null 2>&1; do
    if [ "$SECONDS" -ge "$end" ]; then
      echo "$what: not within $seconds s; see $logs" >&2
      return 1
    fi
    sleep 0.1
  done
}

# Process 1 of the namespaces.
init() {
  local directory
  mount --make-rshared /
  for directory in "${covered[@]}"; do mount -t tmpfs -o mode=755 cluster "$directory"; done
  mount --make-rshared /
  mkdir -p /run/netns /run/lock /var/log/pods /etc/cni/net.d
  hostname "$node"
  # There is no kube-proxy: the service address is the machine's own, and the API server listens there.
  ip link set lo up
  ip addr add "$service_ip/32" dev lo
  # An empty bridge carries the node's address; a loopback address is refused.
  ip link add node0 type bridge
  ip addr add "$node_ip/24" dev node0
  ip link set node0 up
  sysctl -qw net.ipv4.ip_forward=1
  background etcd "$BIN/etcd" --data-dir=/run/etcd --unsafe-no-fsync --log-level=warn \
    --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 \
    --listen-peer-urls=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380 \
    --initial-cluster=default=http://127.0.0.1:2380
  background apiserver "$BIN/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 \
    --tls-cert-file="$pki/apiserver.pem" --tls-private-key-file="$pki/apiserver.key" \
    --client-ca-file="$pki/ca.pem" --secure-port=443 --bind-address=0.0.0.0 \
    --advertise-address="$node_ip" --service-cluster-ip-range=10.96.0.0/16 \
    --service-account-issuer=https://kubernetes.default.svc \
    --service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
    --token-auth-file="$pki/tokens.csv" --authorization-mode=Node,RBAC \
    --enable-admission-plugins=NodeRestriction --allow-privileged=true \
    --kubelet-preferred-address-types=InternalIP --profiling=false
  cp "$here/conf/bridge.conflist" /etc/cni/net.d/
  background containerd containerd --config "$here/conf/containerd.toml"
  sed -e "s/@CGROUP@/$group/; s/@SYNC@/$SYNC/" "$here/conf/kubelet.yaml" >/run/kubelet.yaml
  : >"$STATE/inited"
  # Not `wait`: process 1 must also reap what others leave to it, for as long as the lab is up.
  while :; do sleep 3600 & wait $!; done
}

# Inside, once the API server answers.
the_rest() {
  local archive
  background controllers "$BIN/kube-controller-manager" --kubeconfig="$pki/controllers.kubeconfig" \
    --use-service-account-credentials=true --service-account-private-key-file="$pki/sa.key" \
    --root-ca-file="$pki/ca.pem" --leader-elect=false --secure-port=0 \
    --flex-volume-plugin-dir=/var/lib/kubelet/volumeplugins --kube-api-qps=500 \
    --kube-api-burst=500 --controllers="$(IFS=,; echo "${controllers[*]}")"
  background scheduler "$BIN/kube-scheduler" --kubeconfig="$pki/scheduler.kubeconfig" \
    --leader-elect=false --secure-port=0
  await 30 containerd ctr version
  for archive in "$BIN"/images/*.tar; do
    ctr -n k8s.io images import "$archive" >>"$logs/images.log" 2>&1
  done
  kubelet_start
}

kubelet_start() {
  background kubelet "$BIN/kubelet" --config=/run/kubelet.yaml \
    --kubeconfig="$pki/kubelet.kubeconfig" --root-dir=/var/lib/kubelet \
    --hostname-override="$node" --node-ip="$node_ip" --cert-dir=/var/lib/kubelet/pki
  echo $! >/run/kubelet.pid
}

kubelet_stop() {
  local pid
  pid=$(</run/kubelet.pid)
  kill "$pid"
  await 30 'the end of the kubelet' bash -c "! kill -0 $pid"
}

# name, user, group
kubeconfig() {
  local token
  token=$(openssl rand -hex 16)
  echo "$token,$2,$2,\"$3\"" >>"$pki/tokens.csv"
  cat >"$pki/$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: "https://127.0.0.1:443", certificate-authority: $pki/ca.pem}}]
users: [{name: user, user: {token: $token}}]
contexts: [{name: lab, context: {cluster: lab, user: user}}]
current-context: lab
YAML
}

make_pki() {
  local key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
  mkdir -p "$pki"
  openssl req -x509 "${key[@]}" -keyout "$pki/ca.key" -out "$pki/ca.pem" -days 30 -subj /CN=lab-ca \
    -addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
  openssl req -new "${key[@]}" -keyout "$pki/apiserver.key" -out "$pki/apiserver.csr" \
    -subj /CN=kube-apiserver 2>/dev/null
  openssl x509 -req -in "$pki/apiserver.csr" -CA "$pki/ca.pem" -CAkey "$pki/ca.key" -CAcreateserial \
    -days 30 -out "$pki/apiserver.pem" 2>/dev/null -extfile <(
      echo "subjectAltName=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,IP:127.0.0.1,IP:$service_ip,IP:$node_ip"
      echo extendedKeyUsage=serverAuth
      echo basicConstraints=critical,CA:false
    )
  openssl genrsa -out "$pki/sa.key" 2048 2>/dev/null
  openssl rsa -in "$pki/sa.key" -pubout -out "$pki/sa.pub" 2>/dev/null
  : >"$pki/tokens.csv"
  kubeconfig admin admin system:masters
  kubeconfig kubelet "system:node:$node" system:nodes
  kubeconfig controllers system:kube-controller-manager ''
  kubeconfig scheduler system:kube-scheduler ''
  chmod 600 "$pki"/*.kubeconfig "$pki/tokens.csv" "$pki"/*.key
}

make_cgroups() {
  local hierarchy directory file
  for hierarchy in "${hierarchies[@]}"; do
    [ -d "/sys/fs/cgroup/$hierarchy" ] || continue
    directory=/sys/fs/cgroup/$hierarchy/$group
    mkdir -p "$directory"
    [ "$hierarchy" = cpuset ] || continue
    for file in cpuset.cpus cpuset.mems; do cat "/sys/fs/cgroup/cpuset/$file" >"$directory/$file"; done
  done
}

# The process that is 1 inside, seen from outside: a descendant of unshare in another pid namespace.
find_init() {
  local parent=$1 child mine
  mine=$(readlink /proc/self/ns/pid)
  for child in $(cat "/proc/$parent/task/$parent/children"); do
    if [ "$(readlink "/proc/$child/ns/pid")" != "$mine" ]; then
      echo "$child" >"$STATE/pid"
      return
    fi
    find_init "$child" && return
  done
  return 1
}

node_ready() {
  [ "$(kubectl get node "$node" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')" = True ]
}

environment() {
  export KUBECONFIG=$pki/admin.kubeconfig KUBECACHEDIR=/run/kubecache PATH=$BIN:$PATH
}

up() {
  if [ -e "$STATE/unshare.pid" ]; then
    echo "it is up already, or was not taken down: $STATE/unshare.pid is there" >&2
    return 1
  fi
  trap '[ $? = 0 ] || down' EXIT
  rm -rf "$STATE"
  mkdir -p "$logs"
  make_pki
  make_shared
  make_cgroups
  setsid unshare --mount --pid --net --uts --ipc --fork --kill-child --mount-proc \
    "$here/lab.sh" init >"$logs/init.log" 2>&1 </dev/null &
  echo $! >"$STATE/unshare.pid"
  if ! await 10 'the namespaces (they need root with CAP_SYS_ADMIN)' test -e "$STATE/inited" ||
    ! find_init "$(<"$STATE/unshare.pid")"; then
    cat "$logs/init.log" >&2
    return 1
  fi
  environment
  await 60 'the API server' inside curl -fsk --max-time 2 https://127.0.0.1/readyz
  echo "API server ready after $SECONDS s"
  inside "$here/lab.sh" the-rest
  # Functions do not cross nsenter; kubectl reaches the cluster from inside only.
  await 120 'the node' inside "$here/lab.sh" node-ready
  await 30 'the service account default' inside kubectl get serviceaccount default
  echo "node ready after $SECONDS s"
}

down() {
  local file pid directory
  # Process 1 of the namespaces dies, and the kernel ends all that is in them.
  for file in pid unshare.pid; do
    pid=$(cat "$STATE/$file" 2>/dev/null) || continue
    # The file may be an old one, and the number another's by now.
    grep -qa lab.sh "/proc/$pid/cmdline" 2>/dev/null || continue
    kill -9 "$pid" 2>/dev/null || true
    await 10 "the end of process $pid" test ! -d "/proc/$pid"
  done
  # runc makes one under unified/, too, on a machine with both kinds.
  for directory in /sys/fs/cgroup/*/"$group"; do
    [ ! -d "$directory" ] || await 5 "the end of $directory" remove_cgroup "$directory" || true
  done
  remove_shared
  rm -rf "$pki" "$STATE"/{pid,unshare.pid,inited}
}

# The machine as it was before the first of the labs. What `up` starts inherits the lock.
make_shared() {
  local directory
  exec 9<"${shared%/*}"
  flock -s 9
  mkdir -p "$shared"
  [ -e "$shared/sysctl" ] || sysctl -e "${tunables[@]}" >"$shared/sysctl" 2>/dev/null || true
  for directory in "${covered[@]}"; do
    [ -d "$directory" ] || { mkdir -p "$directory"; echo "$directory" >>"$shared/made"; }
  done
}

# Of the last lab. A directory that is removed under another's mount takes that away.
remove_shared() {
  local directory key value
  exec 9<"${shared%/*}"
  if [ ! -d "$shared" ] || ! flock -nx 9; then
    return 0
  fi
  if [ -e "$shared/made" ]; then
    while read -r directory; do rmdir "$directory" || true; done <"$shared/made"
  fi
  if [ -e "$shared/sysctl" ]; then
    while IFS='= ' read -r key value; do
      [ -z "$key" ] || sysctl -qw "$key=$value" || true
    done <"$shared/sysctl"
  fi
  rm -rf "$shared"
}

remove_cgroup() {
  find "$1" -depth -type d -exec rmdir {} + 2>/dev/null || true
  [ ! -d "$1" ]
}

case ${1:-} in
  up | down) "$1" ;;
  enter)
    shift
    environment
    exec nsenter -t "$(<"$STATE/pid")" -m -p -n -u -i --wd="$PWD" -- "$@"
    ;;
  root) echo "/proc/$(<"$STATE/pid")/root" ;;
  kubelet)
    case ${2:-} in
      start | stop) inside "$here/lab.sh" "kubelet-$2" ;;
      *) echo 'lab.sh kubelet start|stop' >&2; exit 2 ;;
    esac
    ;;
  # The rest is what this script runs of itself, inside.
  init) init ;;
  the-rest) the_rest ;;
  node-ready) node_ready ;;
  kubelet-start) kubelet_start ;;
  kubelet-stop) kubelet_stop ;;
  *) sed -n '2,/^set/{/^#/p}' "$0" >&2; exit 2 ;;
esac
