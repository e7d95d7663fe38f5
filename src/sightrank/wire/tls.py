"""The TLS side of the shared port."""

from __future__ import annotations

import ssl
from pathlib import Path


class CertificateError(Exception):
    """The certificate or its key cannot be read; the text says which file and why."""


def make_tls_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or newer with the given chain and key (PEM).

    http/1.1 is preferred over h2: browsers and curl offer both and get REST, gRPC clients offer h2 alone.
    """
    if certificate is None or key is None:
        raise CertificateError("The TLS port needs a certificate and its key: give --tls-cert and --tls-key.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1", "h2"])
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise CertificateError(f"Cannot use the certificate {certificate} with the key {key}: {error}.") from error
    return context
