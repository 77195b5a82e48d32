"""Chooses the variables of the caller that reach uv, git and this package's own requests.

A variable or a file that someone set for other work changes what uv resolves, where git works and
whom TLS trusts. So each of them gets an explicit list, and all one answer about certificates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

_UV: Final = (
    r"UV_(DEFAULT_INDEX|INDEX|INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS|INDEX_\w+_(USERNAME|PASSWORD)"
    r"|CACHE_DIR|LINK_MODE|OFFLINE|KEYRING_PROVIDER|INSECURE_HOST|NATIVE_TLS|SYSTEM_CERTS"
    r"|HTTP_\w+|REQUEST_TIMEOUT|UPLOAD_HTTP_TIMEOUT|CONCURRENT_\w+|PUBLISH_\w+|PYTHON_INSTALL_DIR)"
)
"""Where packages come from and how they travel: never what is resolved, or how it is installed."""
_GIT: Final = (
    r"GIT_(SSH|SSH_COMMAND|SSH_VARIANT|ASKPASS|SSL_\w+|PROXY_\w+|HTTP_\w+|TERMINAL_PROMPT|EXEC_PATH"
    r"|ALLOW_PROTOCOL|CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|COUNT|PARAMETERS|KEY_\d+|VALUE_\d+))"
)
"""How git reaches a host and which settings it reads: never which repository it works in."""
_FIXED: Final = {
    "UV_NO_CONFIG": "1",
    "GIT_DEFAULT_HASH": "sha1",
    "GIT_DEFAULT_REF_FORMAT": "files",
}
"""What a pinned commit and the store's repositories are, whatever the person's default is."""
_NAMED: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")
SYSTEM_CERTIFICATES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_WHERE: Final = {"index-url": "UV_INDEX_URL", "cache-dir": "UV_CACHE_DIR", "offline": "UV_OFFLINE"}
_LISTS: Final = {
    "extra-index-url": "UV_EXTRA_INDEX_URL",
    "find-links": "UV_FIND_LINKS",
    "allow-insecure-host": "UV_INSECURE_HOST",
}


def chosen(
    environment: Mapping[str, str], system: tuple[str, ...] = SYSTEM_CERTIFICATES
) -> dict[str, str]:
    """Return the environment of a run; a second choice changes nothing."""
    found = {
        name: value
        for name, value in environment.items()
        if not (name.startswith("UV_") and not re.fullmatch(_UV, name))
        and not (name.startswith("GIT_") and not re.fullmatch(_GIT, name))
    }
    if not environment.get("UV_NO_CONFIG"):
        found = {**dict(_settings(environment)), **found}
    # uv does not read pip's.
    if "PIP_INDEX_URL" in found and not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & set(found):
        found["UV_DEFAULT_INDEX"] = found["PIP_INDEX_URL"]
    return {**found, **_FIXED, **_certificates(found, system)}


def _certificates(found: Mapping[str, str], system: tuple[str, ...]) -> dict[str, str]:
    """One file for uv and requests: what a variable names, else the system's own."""
    named = [found[name] for name in _NAMED if found.get(name)]
    if not named and found.get("SSL_CERT_DIR"):
        return {"REQUESTS_CA_BUNDLE": found["SSL_CERT_DIR"]}
    file = next((each for each in (*named, *system) if Path(each).is_file()), "")
    return {"SSL_CERT_FILE": file, "REQUESTS_CA_BUNDLE": file} if file else {}


def _settings(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Name as variables what uv's own files say of where packages come from."""
    home = environment.get("XDG_CONFIG_HOME") or f"{environment.get('HOME', '')}/.config"
    # The first that says something wins in uv as well; here the last, so the person's comes last.
    places = ["/etc/uv/uv.toml", f"{home}/uv/uv.toml", environment.get("UV_CONFIG_FILE", "")]
    for place in filter(None, places):
        try:
            text = Path(place).read_text(encoding="utf-8")
            import tomllib  # noqa: PLC0415  most people have no such file, and wait for no import

            table = tomllib.loads(text)
        except (OSError, ValueError, RecursionError):
            continue
        pip = table.get("pip")
        for part in (pip if isinstance(pip, dict) else {}, table):
            yield from _of_table(part)


def _of_table(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, name in _WHERE.items():
        if isinstance(table.get(key), str | bool):
            yield name, str(table[key]).lower() if isinstance(table[key], bool) else table[key]
    for key, name in _LISTS.items():
        if isinstance(table.get(key), list):
            yield name, (" " if "url" in key else ",").join(map(str, table[key]))
    listed = table.get("index")
    indexes = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    written = [
        (f"{one['name']}={one['url']}" if one.get("name") else str(one["url"]), one)
        for one in indexes
        if one.get("url")
    ]
    for text, one in written:
        if one.get("default"):
            yield "UV_DEFAULT_INDEX", text
    others = [text for text, one in written if not one.get("default")]
    if others:
        yield "UV_INDEX", " ".join(others)
