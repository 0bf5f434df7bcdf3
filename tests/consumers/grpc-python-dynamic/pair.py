"""A pair of gRPC for Python without a control plane: the server looks for new files before each
handshake, and the client makes a new channel.

    pair.py server | client | stranger
"""

import os
import pathlib
import sys

import grpc

import grpc_requests

VOLUMES = pathlib.Path("/run/workload-certificates")
CLIENT = "spiffe://demo-project.svc.id.goog/ns/default/sa/client"


class Volume:
    """The files of one generation. To read through `..data` once is what keeps them together."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.generation = ""

    def is_new(self) -> bool:
        """Is there another generation than the one that was read last?"""
        return os.readlink(self.directory / "..data") != self.generation

    def read(self) -> tuple[bytes, bytes, bytes]:
        """The key, the chain and the roots."""
        generation = os.readlink(self.directory / "..data")
        key, chain, roots = (
            (self.directory / generation / name).read_bytes()
            for name in ("private_key.pem", "certificates.pem", "ca_certificates.pem")
        )
        self.generation = generation
        return key, chain, roots


def configuration(volume: Volume):
    key, chain, roots = volume.read()
    return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=roots)


def serve() -> None:
    volume = Volume(VOLUMES / "server")
    credentials = grpc.dynamic_ssl_server_credentials(
        configuration(volume),
        # Before each handshake; None means: nothing new.
        lambda: configuration(volume) if volume.is_new() else None,
        require_client_authentication=True,
    )
    grpc_requests.serve("127.0.0.1:50051", credentials, {CLIENT})


def dial() -> grpc.Channel:
    key, chain, roots = Volume(VOLUMES / sys.argv[1]).read()
    # localhost is one of the server's `dnsNames`: gRPC checks a host name, and knows no SPIFFE ID.
    return grpc.secure_channel(
        "localhost:50051",
        grpc.ssl_channel_credentials(roots, key, chain),
        # Only so that each request has a connection of its own.
        options=[("grpc.use_local_subchannel_pool", 1)],
    )


if sys.argv[1] == "server":
    serve()
else:
    grpc_requests.forever(("127.0.0.1", 50051), dial)
