"""What the pairs of gRPC for Python share: a service that says whose certificate it saw, and a client
that asks it for ever, by a new connection each time. There are no generated stubs: the service is
the health check, whose request is empty and whose answer is two bytes."""

import concurrent.futures
import socket
import ssl
import time
from collections.abc import Callable

import grpc
from cryptography import x509

METHOD = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"
# In this header the service says which certificate the client showed.
CLIENT_SERIAL = "x-client-serial"


class Health(grpc.GenericRpcHandler):
    """Answers to the SPIFFE IDs that it was given, and to nobody else."""

    def __init__(self, allowed: set[str]) -> None:
        self.allowed = allowed

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(self.check) if details.method == METHOD else None

    def check(self, _request: bytes, context: grpc.ServicerContext) -> bytes:
        peer = context.auth_context()
        ids = {name.decode() for name in peer.get("peer_spiffe_id", [])}
        if not ids & self.allowed:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, f"{ids} may not call")
        certificate = x509.load_pem_x509_certificate(peer["x509_pem_cert"][0])
        context.send_initial_metadata([(CLIENT_SERIAL, f"{certificate.serial_number:x}")])
        return SERVING


def serve(address: str, credentials: grpc.ServerCredentials, allowed: set[str], xds: bool = False) -> None:
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), xds=xds)
    server.add_generic_rpc_handlers((Health(allowed),))
    # With xDS it returns -1, and serves once the control plane has sent the listener.
    server.add_secure_port(address, credentials)
    server.start()
    server.wait_for_termination()


def forever(server: tuple[str, int], dial: Callable[[], grpc.Channel]) -> None:
    """Asks five times a second, and prints a line for each request, as count.py wants them."""
    while True:
        try:
            with dial() as channel:
                call = channel.unary_unary(METHOD)
                _, details = call.with_call(b"", timeout=5, wait_for_ready=False)
            client = dict(details.initial_metadata())[CLIENT_SERIAL]
            print(f"ok server={server_serial(server)} client={client}", flush=True)
        except (grpc.RpcError, OSError, KeyError) as error:
            why = error.details() if isinstance(error, grpc.Call) else repr(error)
            print("failed", why.replace("\n", " "), flush=True)
        time.sleep(0.2)


def server_serial(address: tuple[str, int]) -> str:
    """gRPC for Python shows no client the server's certificate, so it is looked at from beside."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(address, timeout=5) as plain, context.wrap_socket(plain) as secured:
        certificate = x509.load_der_x509_certificate(secured.getpeercert(binary_form=True))
    return f"{certificate.serial_number:x}"
