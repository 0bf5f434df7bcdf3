"""Asks for ever through the client's Envoy, by both of the server's listeners, and the server directly.
A stranger only does the last.

    load.py client | stranger
"""

import http.client
import itertools
import os
import re
import ssl
import sys
import time
import urllib.parse

from cryptography import x509

ID = "spiffe://demo-project.svc.id.goog/ns/default/sa/"
WHO = sys.argv[1]
# Nobody may say himself who he is.
FORGED = {"x-forwarded-client-cert": f"By={ID}server;URI={ID}admin"}


def through_envoy(path: str) -> str:
    listener = path[1:] or "mtls"
    headers = ask(http.client.HTTPConnection("127.0.0.1", 8080, timeout=5), path)
    pem = urllib.parse.unquote(headers["x-server-certificate"])
    server = x509.load_pem_x509_certificate(pem.encode()).serial_number
    return f"{listener}-server={server:x} {listener}-client={headers['x-client-serial']}"


def directly() -> str:
    # One generation: a swap between two files cannot be met in it.
    volume = os.path.realpath(f"/run/workload-certificates/{WHO}/..data")
    context = ssl.create_default_context(cafile=f"{volume}/ca_certificates.pem")
    # The certificate has no host name.
    context.check_hostname = False
    context.load_cert_chain(f"{volume}/credential-bundle.pem")
    connection = http.client.HTTPSConnection("127.0.0.1", 8443, timeout=5, context=context)
    connection.connect()
    server = x509.load_der_x509_certificate(connection.sock.getpeercert(binary_form=True)).serial_number
    return f"direct-server={server:x} direct-client={ask(connection, '/')['x-client-serial']}"


def ask(connection: http.client.HTTPConnection, path: str) -> http.client.HTTPMessage:
    connection.request("GET", path, headers=FORGED)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    if response.status != 200:
        raise ValueError(f"{response.status} {body.decode(errors='replace')}")
    caller = response.headers["x-caller"]
    if not re.fullmatch(f'By={ID}server;Hash=[0-9a-f]{{64}};Subject="";URI={ID}client', caller):
        raise ValueError(f"the server takes the caller for {caller}")
    return response.headers


ways = [lambda: through_envoy("/"), lambda: through_envoy("/spiffe"), directly]
for way in itertools.cycle(ways if WHO == "client" else [directly]):
    try:
        print("ok", way(), flush=True)
    except (OSError, ValueError, TypeError, http.client.HTTPException) as error:
        print("failed", repr(error).replace("\n", " "), flush=True)
    time.sleep(0.1)
