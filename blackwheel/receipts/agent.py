"""Asks the agent of ssh for an ed25519 signature: draft-ietf-sshm-ssh-agent, two messages of it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from typing import Final

from blackwheel.core.errors import BlackwheelError, Exit

KIND: Final = b"ssh-ed25519"
_SIGN_REQUEST: Final = 13
_SIGN_RESPONSE: Final = 14
_LARGEST: Final = 1 << 16
SECONDS: Final = 120
"""A person may be asked for a touch."""


def signature(public: bytes, data: bytes, environment: Mapping[str, str]) -> bytes:
    """Return the agent's signature over `data` by the key of these 32 public bytes.

    An ed25519 key of ssh signs the bytes as they are, so it serves here as any other does.
    Raises `signer-failed`.
    """
    place = environment.get("SSH_AUTH_SOCK", "")
    blob = _text(KIND) + _text(public)
    request = bytes([_SIGN_REQUEST]) + _text(blob) + _text(data) + struct.pack(">I", 0)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            agent.settimeout(SECONDS)
            agent.connect(place)
            agent.sendall(_text(request))
            (size,) = struct.unpack(">I", _exactly(agent, 4))
            answer = _exactly(agent, size) if 0 < size <= _LARGEST else b""
    except (OSError, ValueError) as error:
        raise _failed(f"does not answer: {error}", place) from None
    if answer[:1] != bytes([_SIGN_RESPONSE]):
        raise _failed("refuses: it does not hold this key, or nobody confirmed", place)
    kind, signed = _parts(answer)
    if kind != KIND:
        raise _failed("answers with a signature of another kind", place)
    return signed


def _parts(answer: bytes) -> tuple[bytes, bytes]:
    """Return kind and bytes of the signature; empty where the answer is cut off."""
    both, _ = _taken(answer[1:])
    kind, rest = _taken(both)
    return kind, _taken(rest)[0]


def _taken(data: bytes) -> tuple[bytes, bytes]:
    if len(data) < 4:
        return b"", b""
    (size,) = struct.unpack(">I", data[:4])
    return data[4 : 4 + size], data[4 + size :]


def _exactly(agent: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = agent.recv(size - len(found))
        if not part:
            raise ValueError("it hung up")
        found += part
    return found


def _text(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _failed(fact: str, place: str) -> BlackwheelError:
    return BlackwheelError(
        "signer-failed",
        f"the agent that holds the key {fact}",
        where=f"SSH_AUTH_SOCK={place}",
        fix="ssh-add -l tells what it holds",
        code=Exit.SIGNATURE,
    )
