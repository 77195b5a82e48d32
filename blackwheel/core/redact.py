"""Removes secrets, private hosts, home folders and names from a text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

GONE: Final = "****"
PRIVATE_WORDS: Final = (
    r"TOKEN|PASSW|PASSPHRASE|SECRET|CREDENTIAL|COOKIE"
    r"|(?:API|ACCESS|PRIVATE|ENCRYPTION|SIGNING)_?KEY"
)
"""Words of names whose values nobody may read, wherever they stand in the name."""
_SECRET_NAMES: Final = re.compile(rf"{PRIVATE_WORDS}|(?:^|_)(?:PAT|PWD|PASS|AUTH|KEY)$")
_SHAPES: Final = (
    r"\b(?:hf|gh[oprsu]|glpat|gldt|sk|rk|xox[abprs]|npm|dckr_pat|dop_v1|shpat)[_-][A-Za-z0-9_-]{16,}",
    r"\bAIza[A-Za-z0-9_-]{30,}",
    r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
    r"\bya29\.[A-Za-z0-9_-]{16,}",
    r"\bgithub_pat_\w{20,}",
    r"\bpypi-[A-Za-z0-9_-]{16,}",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",
)
"""Of tokens that say by their beginning what they are: Hugging Face, GitHub, PyPI, AWS, a JWT."""
_NAMES: Final = (
    rf"\w*(?:{PRIVATE_WORDS})\w*"
    r"|(?:(?:\w*_)?(?:PAT|PASS|AUTH|KEY)|\w*_PWD)(?=\s*=)"
)
_ASSIGNED: Final = re.compile(
    rf"""((?:{_NAMES})\\?["']?\s*[=:]\s*)(\\?"[^"\\]*\\?"|'[^']*'|[^\s,;&"'\\]+)""", re.IGNORECASE
)
_HEADER: Final = re.compile(
    r"(\b(?:Authorization|Cookie)\s*:\s*|\b(?:Bearer|Basic)\s+)[^\n\"']+", re.I
)
_PEM: Final = re.compile(
    r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?(?:-----END \1-----|\Z)", re.DOTALL
)
_OPTION: Final = re.compile(
    r"((?:^|\s)(?:--(?:password|passphrase|token|user|proxy-user|http-password|api-key)[ =]"
    r"|-u ))[\"']?[^\s\"']+[\"']?"
)
_NETRC: Final = re.compile(r"\b((?:login|password|account)\s+)(?!\*)\S+(?=\s|$)")
_NETRC_HOST: Final = re.compile(r"\b(machine\s+)\S+(?=\s+login\b)")
_SCP: Final = re.compile(r"(?<![\w/.@-])[\w.-]+@([\w.-]+\.[\w-]+):(?=[\w~./-])")
"""Of git's `user@host:path`."""
_PUBLIC: Final = ("github.com", "gitlab.com", "bitbucket.org")
_USERINFO: Final = re.compile(r"(\w+://)[^\s/@\"'<>]+@[^\s/\"'<>]+")
_QUERY: Final = re.compile(r"(\w+://[^\s?\"'<>]+)\?[^\s\"'<>]*")


def secrets_of(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the secrets of an environment: values of secret variables, logins in addresses."""
    found = [
        value
        for name, value in environment.items()
        if value and name != "PWD" and _SECRET_NAMES.search(name.upper())
    ]
    for value in environment.values():
        head, at, _ = value.partition("@")
        _, scheme, userinfo = head.partition("://")
        if at and scheme and "/" not in userinfo and userinfo:
            found.append(userinfo)
    return tuple(sorted(set(found), key=len, reverse=True))


def masked(text: str, secrets: Sequence[str]) -> str:
    """Replace every secret by ****."""
    for secret in secrets:
        text = text.replace(secret, GONE)
    return text


@dataclass(frozen=True, kw_only=True, slots=True)
class Redactor:
    """Values of one machine to remove, beside the forms that are always removed."""

    environment: Mapping[str, str] = field(repr=False)
    home: str = ""
    user: str = ""
    host: str = ""
    mirrors: tuple[str, ...] = ()
    """Addresses of one's own that stand elsewhere, in git's configuration."""

    def hosts(self) -> tuple[str, ...]:
        """Return private hosts that only the environment names: indexes, mirrors, proxies."""
        addresses = [each for each in self.environment.values() if "://" in each]
        addresses += [  # a proxy may be given as host:port
            f"http://{value}"
            for name, value in self.environment.items()
            if name.lower().endswith("_proxy") and name.lower() != "no_proxy" and "://" not in value
        ]
        found = {name for each in (*addresses, *self.mirrors) if (name := _host(each))} | {
            self.host
        }
        return tuple(sorted(filter(None, found), key=len, reverse=True))

    def document(self, text: str) -> str:
        """Return a JSON text with its values redacted, also by the names of their keys."""
        return json.dumps(self._value(json.loads(text)), indent=1)

    def _value(self, value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {self(key): self._value(each, key) for key, each in value.items()}
        if isinstance(value, list):
            return [self._value(each, name) for each in value]
        if not isinstance(value, str):
            return value
        return GONE if re.fullmatch(_NAMES, name, re.IGNORECASE) else self(value)

    def __call__(self, text: str) -> str:
        """Return the text without it."""
        text = masked(text, [each for each in secrets_of(self.environment) if len(each) > 3])
        text = _PEM.sub(GONE, text)
        if _NETRC_HOST.search(text):
            text = _NETRC.sub(rf"\1{GONE}", _NETRC_HOST.sub(r"\1HOST", text))
        text = _OPTION.sub(rf"\1{GONE}", text)
        text = _SCP.sub(_without_host, text)
        text = _USERINFO.sub(rf"\1{GONE}@HOST", text)
        text = _QUERY.sub(rf"\1?{GONE}", text)
        text = _HEADER.sub(rf"\1{GONE}", text)
        text = _ASSIGNED.sub(_without_value, text)
        for shape in _SHAPES:
            text = re.sub(shape, GONE, text)
        for host in self.hosts():
            text = re.sub(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", "HOST", text)
        if len(self.home) > 1:
            text = re.sub(rf"{re.escape(self.home)}(?!\w)", "~", text)
        text = re.sub(r"(/(?:home|Users)/)[^/\s\"':]+", r"\1USER", text)
        if len(self.user) > 2 and self.user != "root":
            text = re.sub(rf"(?<!\w){re.escape(self.user)}(?!\w)", "USER", text)
        return text


def _without_value(found: re.Match[str]) -> str:
    quote = found[2][: len(found[2]) - len(found[2].lstrip("\\\"'"))]
    return f"{found[1]}{quote}{GONE}{quote}"


def _without_host(found: re.Match[str]) -> str:
    return found[0] if found[1].lower() in _PUBLIC else f"{GONE}@HOST:"


def _host(address: str) -> str:
    if scp := re.fullmatch(r"(?:url\.)?(?:[\w.-]+@)?([\w.-]+):(?!//)\S*", address.strip()):
        return "" if scp[1].lower() in _PUBLIC else scp[1]
    try:
        return urlsplit(address.strip()).hostname or ""
    except ValueError:
        return ""
