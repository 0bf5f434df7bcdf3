# Proxyless grpc-go: an xDS control plane, and the certificates by the bootstrap's file_watcher.
# shellcheck shell=bash disable=SC2154  # world.sh sets here, volumes and installed
start() {
  serve controlplane "$installed/go/controlplane" 127.0.0.1:18000 /etc/xds/resources.yaml
  await 20 'control plane' port_open 18000
  serve server env GRPC_XDS_BOOTSTRAP=/etc/xds/bootstrap-server.json \
    "$installed/go/grpc-go-xds" server 127.0.0.1:50051
  await 20 'server' port_open 50051
}

load() {
  GRPC_XDS_BOOTSTRAP=/etc/xds/bootstrap-$1.json "$installed/go/grpc-go-xds" client xds:///greeter
}
