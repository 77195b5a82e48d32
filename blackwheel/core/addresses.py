"""Shows the addresses of hosts without their secrets, and finds the package index."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.process import capture


def shown(url: str) -> str:
    """Return the address without user and password."""
    return re.sub(r"(?<=://)[^/@]*@", "", url)


def index_address(environment: Mapping[str, str]) -> str | None:
    """Return the package index that this environment, or else pip's configuration, names."""
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        if environment.get(name):
            return re.sub(r"^[\w.-]+=(?=\w+://)", "", environment[name])  # uv's name=address
    for pip in ([sys.executable, "-m", "pip"], ["pip"]):  # uv's environments have none of their own
        if pip[0] == "pip" and not shutil.which("pip", path=environment.get("PATH", "")):
            continue
        # Not `config get`: pip 23.2's finds nothing where PIP_CONFIG_FILE names the file.
        listed = [*pip, "config", "list"]
        answer = capture(listed, environment=environment, cwd=Path("/"), check=False)
        found = re.search(r"^global\.index-url='(.*)'$", answer.stdout, re.MULTILINE)
        if found:
            return found[1]
    return None


def index_cure(why: str) -> str:
    """Return the cure of a request that failed for this reason."""
    if "CERTIFICATE_VERIFY_FAILED" in why or "certificate" in why.lower():
        return "export SSL_CERT_FILE=FILE (your network's own certificates, in one PEM file)"
    if "SOCKS" in why:
        return f"{sys.executable} -m pip install pysocks (ALL_PROXY names a SOCKS proxy)"
    if re.search(r"answers (408|425|429|5\d\d)\b", why):
        return "the same command again, later: the server is there, and busy or broken"
    if re.search(r"is no page|another version|nested|does not end|is none", why):
        return "open the address in a browser: a login page, or no package index at all"
    return "export UV_DEFAULT_INDEX=ADDRESS (of a mirror that this machine reaches), or HTTPS_PROXY"


def require_address(address: str, option: str) -> None:
    """Raise `bad-address` for an address that no program could ask."""
    try:
        parts = urlsplit(address)
        named = bool(parts.scheme == "file" or parts.hostname) and (parts.port or 1) > 0
        plain = address.isprintable() and " " not in address
    except ValueError:
        named = plain = False
    if not (named and plain):
        raise BlackwheelError(
            "bad-address",
            f"'{shown(address)}' is no address: a scheme, a host and a port from 1 to 65535",
            where=option,
            fix=f"{option} https://host.example/simple/",
            code=Exit.USAGE,
        )
