"""Asks the client's Envoy for ever, by both of the server's listeners in turn."""

import http.client
import itertools
import re
import time
import urllib.parse

from cryptography import x509

ID = "spiffe://demo-project.svc.id.goog/ns/default/sa/"


def request(path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=5)
    # Nobody may say himself who he is.
    forged = "By=spiffe://x;URI=spiffe://demo-project.svc.id.goog/ns/default/sa/admin"
    connection.request("GET", path, headers={"x-forwarded-client-cert": forged})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    if response.status != 200:
        raise ValueError(f"{response.status} {body.decode(errors='replace')}")
    caller = response.headers["x-caller"]
    if not re.fullmatch(f'By={ID}server;Hash=[0-9a-f]{{64}};Subject="";URI={ID}client', caller):
        raise ValueError(f"the server takes the caller for {caller}")
    pem = urllib.parse.unquote(response.headers["x-server-certificate"])
    server = x509.load_pem_x509_certificate(pem.encode()).serial_number
    listener = path[1:] or "mtls"
    return f"{listener}-server={server:x} {listener}-client={response.headers['x-client-serial']}"


for path in itertools.cycle(["/", "/spiffe"]):
    try:
        print("ok", request(path), flush=True)
    except (OSError, ValueError, TypeError, http.client.HTTPException) as error:
        print("failed", path, repr(error), flush=True)
    time.sleep(0.1)
