# Proxyless grpc-go: an xDS control plane, and the certificates by the bootstrap's file_watcher.
start() {
  serve controlplane "$installed/go/controlplane" 127.0.0.1:18000 /etc/xds/resources.yaml
  await 20 'control plane' port_open 18000
  serve server env GRPC_XDS_BOOTSTRAP=/etc/xds/bootstrap-server.json \
    "$installed/go/grpc-go-xds" server 127.0.0.1:50051
  await 20 'server' port_open 50051
}

load() {
  GRPC_XDS_BOOTSTRAP=/etc/xds/bootstrap-client.json "$installed/go/grpc-go-xds" client xds:///greeter
}
