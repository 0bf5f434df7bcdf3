"""A proxyless pair of gRPC's C-core: TLS, identities and authorisation come from the xDS control
plane, and the certificates from the files that the bootstrap's provider names.

    GRPC_XDS_BOOTSTRAP=FILE pair.py server | client
"""

import sys

import grpc

import grpc_requests

CLIENT = "spiffe://demo-project.svc.id.goog/ns/default/sa/client"


def dial() -> grpc.Channel:
    return grpc.secure_channel(
        "xds:///greeter",
        grpc.xds_channel_credentials(),
        # Only so that each request has a connection of its own.
        options=[("grpc.use_local_subchannel_pool", 1)],
    )


if sys.argv[1] == "server":
    # What is in the brackets is used where the control plane sends no TLS.
    credentials = grpc.xds_server_credentials(grpc.insecure_server_credentials())
    grpc_requests.serve("127.0.0.1:50051", credentials, {CLIENT}, xds=True)
else:
    grpc_requests.forever(("127.0.0.1", 50051), dial)
