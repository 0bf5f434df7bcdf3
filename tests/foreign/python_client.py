#!/usr/bin/env python3
"""Google's Python client of CA Service, unpatched, against `certagent emulator --empty`.

    python_client.py http://127.0.0.1:PORT

Creates the guide's pools and CAs, issues, gets, lists, revokes and fetches, and provokes the
errors that the client turns into exceptions. Every statement that fails ends it with status 1.
"""
import sys
import uuid

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud.security import privateca_v1 as ca
from google.iam.v1 import iam_policy_pb2, policy_pb2
from google.protobuf import duration_pb2, field_mask_pb2

PARENT = "projects/python-project/locations/us-central1"
ROOT_POOL = f"{PARENT}/caPools/root-pool"
ISSUING_POOL = f"{PARENT}/caPools/issuing-pool"
SPIFFE_ID = "spiffe://python-project.svc.id.goog/ns/default/sa/server"
PEM = serialization.Encoding.PEM


def check(condition, what):
    if not condition:
        sys.exit(f"FAILED: {what}")
    print(f"ok: {what}")


def refused(error, call, what):
    try:
        call()
    except error as refusal:
        check(bool(refusal.message), f"{what} is {type(refusal).__name__}: {refusal.message}")
        return
    sys.exit(f"FAILED: {what} was not refused")


def seconds(value):
    return duration_pb2.Duration(seconds=value)


def csr(key, name):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256()).public_bytes(PEM).decode()


def create_pool(client, pool_id, tier):
    operation = client.create_ca_pool(request=ca.CreateCaPoolRequest(
        parent=PARENT, ca_pool_id=pool_id, ca_pool=ca.CaPool(tier=tier), request_id=str(uuid.uuid4())))
    pool = operation.result(timeout=60)
    check(pool.name == f"{PARENT}/caPools/{pool_id}" and pool.tier == tier, f"the pool {pool_id} is created")


def authority(kind, name, path_length):
    return ca.CertificateAuthority(
        type_=kind,
        lifetime=seconds(86400 * 365),
        key_spec=ca.CertificateAuthority.KeyVersionSpec(algorithm=ca.CertificateAuthority.SignHashAlgorithm.EC_P256_SHA256),
        config=ca.CertificateConfig(
            subject_config=ca.CertificateConfig.SubjectConfig(subject=ca.Subject(common_name=name, organization="Example")),
            x509_config=ca.X509Parameters(
                key_usage=ca.KeyUsage(base_key_usage=ca.KeyUsage.KeyUsageOptions(cert_sign=True, crl_sign=True)),
                ca_options=ca.X509Parameters.CaOptions(is_ca=True, max_issuer_path_length=path_length))))


def create_authority(client, pool, ca_id, body):
    operation = client.create_certificate_authority(request=ca.CreateCertificateAuthorityRequest(
        parent=pool, certificate_authority_id=ca_id, certificate_authority=body, request_id=str(uuid.uuid4())))
    return operation.result(timeout=60)


def config(key):
    public = key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return ca.CertificateConfig(
        subject_config=ca.CertificateConfig.SubjectConfig(
            subject=ca.Subject(), subject_alt_name=ca.SubjectAltNames(uris=[SPIFFE_ID])),
        x509_config=ca.X509Parameters(
            key_usage=ca.KeyUsage(
                base_key_usage=ca.KeyUsage.KeyUsageOptions(digital_signature=True),
                extended_key_usage=ca.KeyUsage.ExtendedKeyUsageOptions(server_auth=True, client_auth=True)),
            ca_options=ca.X509Parameters.CaOptions(is_ca=False)),
        public_key=ca.PublicKey(key=public, format_=ca.PublicKey.KeyFormat.PEM))


def main(endpoint):
    client = ca.CertificateAuthorityServiceClient(
        transport="rest", credentials=AnonymousCredentials(), client_options={"api_endpoint": endpoint})
    State = ca.CertificateAuthority.State

    create_pool(client, "root-pool", ca.CaPool.Tier.ENTERPRISE)
    create_pool(client, "issuing-pool", ca.CaPool.Tier.DEVOPS)
    refused(exceptions.Conflict, lambda: client.create_ca_pool(
        parent=PARENT, ca_pool_id="root-pool", ca_pool=ca.CaPool(tier=ca.CaPool.Tier.ENTERPRISE)), "a second pool of one name")
    names = sorted(pool.name for pool in client.list_ca_pools(parent=PARENT))
    check(names == [ISSUING_POOL, ROOT_POOL], "both pools are listed")

    root = create_authority(client, ROOT_POOL, "root-ca", authority(ca.CertificateAuthority.Type.SELF_SIGNED, "root", 1))
    check(root.state == State.STAGED and len(root.pem_ca_certificates) == 1, "a root CA is created and staged")
    root = client.enable_certificate_authority(name=root.name).result(timeout=60)
    check(root.state == State.ENABLED, "the root CA is enabled")

    sub = create_authority(client, ISSUING_POOL, "sub-ca", authority(ca.CertificateAuthority.Type.SUBORDINATE, "issuing", 0))
    check(sub.state == State.AWAITING_USER_ACTIVATION, "a subordinate CA waits for its activation")
    request = client.fetch_certificate_authority_csr(name=sub.name).pem_csr
    signed = client.create_certificate(request=ca.CreateCertificateRequest(
        parent=ROOT_POOL, certificate_id="sub-ca", request_id=str(uuid.uuid4()),
        certificate=ca.Certificate(pem_csr=request, lifetime=seconds(86400 * 300))))
    sub = client.activate_certificate_authority(request=ca.ActivateCertificateAuthorityRequest(
        name=sub.name, pem_ca_certificate=signed.pem_certificate,
        subordinate_config=ca.SubordinateConfig(pem_issuer_chain=ca.SubordinateConfig.SubordinateConfigChain(
            pem_certificates=signed.pem_certificate_chain)))).result(timeout=60)
    check(sub.state == State.STAGED and len(sub.pem_ca_certificates) == 2, "the subordinate CA is activated")
    key = ec.generate_private_key(ec.SECP256R1())
    order = ca.Certificate(config=config(key), lifetime=seconds(86400))
    refused(exceptions.BadRequest, lambda: client.create_certificate(
        parent=ISSUING_POOL, certificate=order, certificate_id="x"), "a pool without an enabled CA")
    client.enable_certificate_authority(name=sub.name).result(timeout=60)
    cas = {found.name: found.state for found in client.list_certificate_authorities(parent=f"{PARENT}/caPools/-")}
    check(cas == {root.name: State.ENABLED, sub.name: State.ENABLED}, "the CAs of all pools are listed")

    leaf = client.create_certificate(request=ca.CreateCertificateRequest(
        parent=ISSUING_POOL, certificate=order, certificate_id="leaf", request_id=str(uuid.uuid4())))
    parsed = x509.load_pem_x509_certificate(leaf.pem_certificate.encode())
    uris = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.UniformResourceIdentifier)
    check(uris == [SPIFFE_ID], "a certificate has the SPIFFE ID")
    check(parsed.public_key() == key.public_key(), "and is for the key that was sent")
    issuer = x509.load_pem_x509_certificate(leaf.pem_certificate_chain[0].encode())
    parsed.verify_directly_issued_by(issuer)
    check(leaf.certificate_description.subject_description.subject_alt_name.uris == [SPIFFE_ID], "its description says so, too")
    refused(exceptions.GoogleAPICallError, lambda: client.get_certificate(name=leaf.name), "reading a certificate of a DEVOPS pool")

    by_csr = ca.CreateCertificateRequest(
        parent=ROOT_POOL, certificate_id="by-csr", request_id=str(uuid.uuid4()),
        certificate=ca.Certificate(pem_csr=csr(key, "by-csr"), lifetime=seconds(3600)))
    first, again = client.create_certificate(request=by_csr), client.create_certificate(request=by_csr)
    check(first.pem_certificate == again.pem_certificate, "the same requestId gives the same certificate")
    by_csr.request_id = str(uuid.uuid4())
    refused(exceptions.Conflict, lambda: client.create_certificate(request=by_csr), "a certificateId for the second time")
    check(client.get_certificate(name=first.name).pem_certificate == first.pem_certificate, "an ENTERPRISE certificate is got by its name")
    check(first.name in [found.name for found in client.list_certificates(parent=ROOT_POOL)], "and listed")
    first.labels["team"] = "mesh"
    labelled = client.update_certificate(certificate=first, update_mask=field_mask_pb2.FieldMask(paths=["labels"]))
    check(dict(labelled.labels) == {"team": "mesh"}, "and labelled")
    revoked = client.revoke_certificate(request=ca.RevokeCertificateRequest(name=first.name, reason=ca.RevocationReason.KEY_COMPROMISE))
    check(revoked.revocation_details.revocation_state == ca.RevocationReason.KEY_COMPROMISE, "and revoked")
    validated = client.create_certificate(request=ca.CreateCertificateRequest(
        parent=ROOT_POOL, certificate_id="not-issued", certificate=order, validate_only=True))
    check(not validated.pem_certificate, "validate_only issues nothing")

    chains = client.fetch_ca_certs(ca_pool=ISSUING_POOL).ca_certs
    check([len(chain.certificates) for chain in chains] == [2], "the chains of a pool are fetched")
    check(chains[0].certificates[-1].strip() == root.pem_ca_certificates[0].strip(), "and end in the root")

    policy = client.get_iam_policy(request=iam_policy_pb2.GetIamPolicyRequest(resource=ISSUING_POOL))
    policy.bindings.append(policy_pb2.Binding(role="roles/privateca.certificateRequester", members=["user:somebody@example.com"]))
    policy = client.set_iam_policy(request=iam_policy_pb2.SetIamPolicyRequest(resource=ISSUING_POOL, policy=policy))
    check([binding.role for binding in policy.bindings] == ["roles/privateca.certificateRequester"], "an IAM policy is kept")

    refused(exceptions.NotFound, lambda: client.get_ca_pool(name=f"{PARENT}/caPools/nowhere"), "an unknown pool")
    refused(exceptions.BadRequest, lambda: client.create_certificate(
        parent=ROOT_POOL, certificate_id="no-lifetime", certificate=ca.Certificate(config=config(key))), "a request without a lifetime")
    refused(exceptions.BadRequest, lambda: client.delete_certificate_authority(name=root.name).result(timeout=60), "deleting an enabled CA")

    disabled = client.disable_certificate_authority(name=sub.name).result(timeout=60)
    check(disabled.state == State.DISABLED, "a CA is disabled")
    check(len(client.fetch_ca_certs(ca_pool=ISSUING_POOL).ca_certs) == 1, "and its chain is still fetched")
    print("Google's Python client accepts the emulator")


if __name__ == "__main__":
    main(*sys.argv[1:])
