"""Makes and reads ed25519 keys: signers (a file, an agent, a program), and keys to trust."""

from __future__ import annotations

import base64
import binascii
import os
import re
import shlex
import stat
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from blackwheel.core import process
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.receipts import agent

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from securesystemslib.signer import SSlibKey

AGENT: Final = "agent:"
PROGRAM: Final = "exec:"
LARGEST: Final = 1 << 16
"""Bytes of a file of keys."""
MOST: Final = 64
"""Public keys in one file."""
SECONDS: Final = 120
"""A program may ask a person for a touch."""
_PEM: Final = re.compile(
    rb"-----BEGIN PUBLIC KEY-----\r?\n[A-Za-z0-9+/=\r\n]{1,2000}-----END PUBLIC KEY-----"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Signer:
    """A private key, wherever it is kept, with its public key."""

    public: SSlibKey
    sign: Callable[[bytes], bytes]
    """Returns the 64 bytes of an ed25519 signature."""


def new_key(path: Path) -> str:
    """Write a private key that only its owner reads, and the public one beside; return its id.

    Raises `key-exists` and `no-key`.
    """
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  seldom signed
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
        Ed25519PrivateKey,
    )

    private = Ed25519PrivateKey.generate()
    secret = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for target, data, mode in ((path, secret, 0o600), (public_path(path), public, 0o644)):
        try:
            handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        except FileExistsError:
            raise _error(
                "key-exists",
                "a file is there already, and no key is written over another",
                where=str(target),
                fix="name another file, or move that one away",
            ) from None
        except OSError as error:
            fact = f"the key cannot be written: {error.strerror or error}"
            raise _error("no-key", fact, where=str(target), fix="name a file in a folder") from None
        with os.fdopen(handle, "wb") as sink:
            sink.write(data)
    return str(_key(private.public_key()).keyid)


def public_path(path: Path) -> Path:
    """Return where the public key of a private one lies."""
    return path.with_name(f"{path.name}.pub")


def signer(spec: str, environment: Mapping[str, str]) -> Signer:
    """Return the signer that `FILE`, `agent:FILE.pub` or `exec:COMMAND` names.

    An agent is that of ssh (SSH_AUTH_SOCK). A program is called with `public`, and prints its
    public key, or with `sign`: it reads the bytes and prints the signature in base64.
    Raises `no-key`, `open-key`, `bad-key` and `signer-failed`.
    """
    if spec.startswith(AGENT):
        (public, *_) = public_keys(Path(spec.removeprefix(AGENT)).expanduser())
        raw = bytes.fromhex(public.keyval["public"])
        return Signer(public=public, sign=lambda data: agent.signature(raw, data, environment))
    if spec.startswith(PROGRAM):
        words = shlex.split(spec.removeprefix(PROGRAM))
        if not words:
            raise _error(
                "no-key", "exec: names no program", where=spec, fix="exec:/path/to/program"
            )
        (public, *_) = _public_keys(_called(words, "public", b"", environment), where=spec)
        return Signer(public=public, sign=lambda data: _answer(words, data, environment))
    return _from_file(Path(spec).expanduser().absolute())


def public_keys(path: Path) -> tuple[SSlibKey, ...]:
    """Return the public keys of a file, PEM or OpenSSH lines, at least one.

    Raises `no-key` and `bad-key`.
    """
    return _public_keys(_read(path, secret=False), where=str(path))


def _public_keys(data: bytes, *, where: str) -> tuple[SSlibKey, ...]:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  seldom signed
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
        Ed25519PublicKey,
    )

    lines = [line for line in data.splitlines() if line.startswith(b"ssh-")]
    found = []
    try:
        blocks = [match[0] for match in _PEM.finditer(data)]
        loaded = [serialization.load_pem_public_key(one) for one in blocks]
        loaded += [serialization.load_ssh_public_key(one) for one in lines]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _bad(f"a public key cannot be read: {error}", where) from None
    for one in loaded:
        if not isinstance(one, Ed25519PublicKey):
            raise _bad("a public key is not of the kind ed25519", where)
        found.append(_key(one))
    if not found or len(found) > MOST:
        raise _bad(f"the file holds {len(found) or 'no'} public keys", where)
    return tuple(found)


def _key(public: Ed25519PublicKey) -> SSlibKey:
    from securesystemslib.signer import SSlibKey  # noqa: PLC0415  0.1 s that only signing pays

    return SSlibKey.from_crypto(public)


def _from_file(path: Path) -> Signer:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  seldom signed
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
        Ed25519PrivateKey,
    )
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        load_pem_private_key,
        load_ssh_private_key,
    )

    data = _read(path, secret=True)
    load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in data else load_pem_private_key
    try:
        private = load(data, password=None)
    except TypeError:  # it has a passphrase
        raise _error(
            "bad-key",
            "the private key has a passphrase, which nobody is asked for",
            where=str(path),
            fix=f"ssh-add {path}, and name {AGENT}{public_path(path)}",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise _bad("the file holds no private key", str(path)) from None
    if not isinstance(private, Ed25519PrivateKey):
        raise _bad("the private key is not of the kind ed25519", str(path))
    return Signer(public=_key(private.public_key()), sign=private.sign)


def _read(path: Path, *, secret: bool) -> bytes:
    """Read a file of keys; a secret one must be its owner's alone."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        what = "private" if secret else "public"
        raise _error(
            "no-key",
            f"the {what} key cannot be read: {error.strerror or error}",
            where=str(path),
            fix="invoke new-key FILE makes one" if secret else "name the file of the public key",
        ) from None
    with os.fdopen(handle, "rb") as source:
        seen = os.fstat(source.fileno())
        if not stat.S_ISREG(seen.st_mode) or seen.st_size > LARGEST:
            raise _bad(f"it is no file of at most {LARGEST} bytes", str(path))
        if secret and (seen.st_mode & 0o077 or seen.st_uid != os.geteuid()):
            owner = "another user's" if seen.st_uid != os.geteuid() else "not its owner's alone"
            raise _error(
                "open-key",
                f"the private key is {owner} (mode {stat.S_IMODE(seen.st_mode):o})",
                where=str(path),
                fix=f"make a new key: others may have read it; or chmod 600 {path}",
            )
        return source.read(LARGEST)


def _answer(words: Sequence[str], data: bytes, environment: Mapping[str, str]) -> bytes:
    answer = _called(words, "sign", data, environment)
    try:
        return base64.b64decode(answer.strip(), validate=True)
    except (ValueError, binascii.Error):
        raise _failed("printed no base64", words) from None


def _called(words: Sequence[str], verb: str, data: bytes, environment: Mapping[str, str]) -> bytes:
    argv = [*words, verb]
    try:
        done = process.capture(
            argv, environment=environment, cwd=Path.cwd(), timeout=SECONDS, check=False, given=data
        )
    except subprocess.TimeoutExpired:
        raise _failed("gave no answer in time", argv) from None
    if done.code != 0:
        raise _failed(f"ended with code {done.code}\n{done.tail}", argv)
    return done.stdout.encode()[:LARGEST]


def _failed(fact: str, argv: Sequence[str]) -> BlackwheelError:
    return _error(
        "signer-failed",
        f"the program that signs {fact}",
        where=shlex.join(argv),
        fix="run it by hand: `public` prints a key, `sign` reads bytes and prints base64",
    )


def _bad(fact: str, where: str) -> BlackwheelError:
    return _error("bad-key", fact, where=where, fix="invoke new-key FILE makes a pair of them")


def _error(name: str, fact: str, *, where: str, fix: str) -> BlackwheelError:
    return BlackwheelError(name, fact, where=where, fix=fix, code=Exit.SIGNATURE)
