# Proxyless gRPC for Python (C-core): the control plane and the bootstraps are those of grpc-go.
# shellcheck shell=bash disable=SC2154  # world.sh sets here, volumes and installed
start() {
  serve controlplane "$installed/go/controlplane" 127.0.0.1:18000 /etc/xds/resources.yaml
  await 20 'control plane' port_open 18000
  serve server env GRPC_XDS_BOOTSTRAP=/etc/xds/bootstrap-server.json PYTHONPATH="$here" \
    python3 "$here/grpc-python-xds/pair.py" server
  await 20 'server' port_open 50051
}

load() {
  GRPC_XDS_BOOTSTRAP=/etc/xds/bootstrap-$1.json PYTHONPATH=$here \
    python3 "$here/grpc-python-xds/pair.py" client
}
