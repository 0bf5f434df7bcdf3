# gRPC for Python without a control plane: dynamic credentials at the server.
# shellcheck shell=bash disable=SC2154  # world.sh sets here, volumes and installed
start() {
  serve server env PYTHONPATH="$here" python3 "$here/grpc-python-dynamic/pair.py" server
  await 20 'server' port_open 50051
}

load() {
  PYTHONPATH=$here python3 "$here/grpc-python-dynamic/pair.py" "$1"
}
