"""Whom TLS trusts: doctor, which asks with requests, says of an index what uv will find."""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from uv import find_uv_bin

ROOT = Path(__file__).parents[2]
PAGE = b"<!DOCTYPE html><html><body></body></html>"
ASK = """
import json
from blackwheel.core import entry
from blackwheel.doctor.machine_checks import registry_check

def act(site):
    check = registry_check(site.environment, needed=True)
    print(json.dumps([check.ok, check.fact, check.cure, dict(site.environment)]))

raise SystemExit(entry.run(act))
"""


def made(folder: Path) -> tuple[Path, Path]:
    """Make an authority of nobody's and a certificate of it for 127.0.0.1; return their files."""
    now = datetime.now(UTC)

    def certificate(subject: str, key: Any, issuer: str, signer: Any, *more: Any) -> Any:
        names = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n)]) for n in (subject, issuer))
        named, by = names
        builder = x509.CertificateBuilder().subject_name(named).issuer_name(by)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1))
        builder = builder.not_valid_after(now + timedelta(days=1))
        for extension, critical in more:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(signer, hashes.SHA256())

    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    root = certificate(
        "toy authority",
        keys[0],
        "toy authority",
        keys[0],
        (x509.BasicConstraints(ca=True, path_length=None), True),
    )
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    server = certificate("toy index", keys[1], "toy authority", keys[0], (here, False))
    pem = serialization.Encoding.PEM
    authority, both = folder / "authority.pem", folder / "server.pem"
    authority.write_bytes(root.public_bytes(pem))
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    both.write_bytes(keys[1].private_bytes(pem, *plain) + server.public_bytes(pem))
    return authority, both


class Index(BaseHTTPRequestHandler):
    """An index of empty pages."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def inspected(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address of an index behind a network that signs TLS itself, and that network's authority."""
    authority, both = made(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Index)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}/simple", authority
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("variable", "trusted"),
    [
        ("SSL_CERT_FILE", True),
        ("REQUESTS_CA_BUNDLE", True),
        ("CURL_CA_BUNDLE", True),
        ("PIP_CERT", True),
        ("", False),
    ],
)
def test_doctor_says_of_certificates_what_uv_finds(
    inspected: tuple[str, Path], tmp_path: Path, variable: str, trusted: bool
) -> None:
    address, authority = inspected
    given = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "UV_HTTP_RETRIES": "0"}
    given |= {"PYTHONPATH": str(ROOT), "UV_DEFAULT_INDEX": address}
    given |= {variable: str(authority)} if variable else {}
    code = [sys.executable, "-c", ASK]
    done = subprocess.run(code, env=given, cwd=ROOT, capture_output=True, text=True, check=True)
    ok, fact, cure, environment = json.loads(done.stdout)
    resolve = [find_uv_bin(), "pip", "compile", "--no-cache", "--python", sys.executable, "-"]
    uv = subprocess.run(
        resolve,
        env=environment,
        cwd=tmp_path,
        input="toy",
        capture_output=True,
        text=True,
        check=False,
    )
    refused = "certificate" in uv.stderr.lower()
    assert refused or "toy" in uv.stderr, "uv came to the page and found no version there"
    assert (ok, not refused) == (trusted, trusted), f"{fact}\n{uv.stderr}"
    if not trusted:
        assert "CERTIFICATE_VERIFY_FAILED" in fact
        assert cure.startswith("export SSL_CERT_FILE=")
