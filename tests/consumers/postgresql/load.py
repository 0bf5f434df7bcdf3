"""Asks PostgreSQL for ever as both of its users, by a new connection each time. A stranger asks as the
one whose certificate is enough; he has the other's password, and so may be it.

    load.py client | stranger
"""

import pathlib
import socket
import ssl
import subprocess
import sys
import time

from cryptography import x509

WHO = sys.argv[1]
QUERY = pathlib.Path(__file__).parent / "query.sh"
NAMES = "select current_user, client_serial from pg_stat_ssl where pid = pg_backend_pid()"
# The first message of a client that wants TLS.
SSL_REQUEST = bytes.fromhex("0000000804d2162f")


def request(user: str) -> str:
    answer = subprocess.run(
        ["bash", QUERY, f"/run/workload-certificates/{WHO}", user, NAMES],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    if answer.returncode:
        raise ValueError(answer.stderr.replace("\n", " "))
    current, serial = answer.stdout.strip().split("|")
    if current != user:
        raise ValueError(f"{user} became {current}")
    return f"server={server_serial():x} {user}={int(serial):x}"


def server_serial() -> int:
    """psql does not show the server's certificate, so it is looked at from beside."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", 5432), timeout=5) as plain:
        plain.sendall(SSL_REQUEST)
        if plain.recv(1) != b"S":
            raise ValueError("the server speaks no TLS")
        with context.wrap_socket(plain) as secured:
            return x509.load_der_x509_certificate(secured.getpeercert(binary_form=True)).serial_number


while True:
    for user in ("app", "reports") if WHO == "client" else ("app",):
        try:
            print("ok", request(user), flush=True)
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            print("failed", user, error, flush=True)
        time.sleep(0.2)
