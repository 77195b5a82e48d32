"""Keys: made, read from a file, an agent and a program; each one that cannot be used is named."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.receipts import envelope, keys

RSA = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]
PATH = {"PATH": os.environ["PATH"]}


@pytest.fixture
def key(tmp_path: Path) -> Path:
    keys.new_key(tmp_path / "toy.key")
    return tmp_path / "toy.key"


def refusal(spec: str) -> BlackwheelError:
    with pytest.raises(BlackwheelError) as caught:
        keys.signer(spec, PATH)
    assert caught.value.code == Exit.SIGNATURE
    return caught.value


def test_new_key_is_its_owners_alone_and_never_over_another(key: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    with pytest.raises(BlackwheelError, match="key-exists"):
        keys.new_key(key)
    with pytest.raises(BlackwheelError, match="no-key"):
        keys.new_key(key.parent / "nowhere" / "key")
    assert key.read_bytes() == before
    (public,) = keys.public_keys(keys.public_path(key))
    signer = keys.signer(str(key), {})
    assert signer.public.keyid == public.keyid
    assert b"PRIVATE" not in keys.public_path(key).read_bytes()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_private_key_that_others_may_read_or_write_is_refused(key: Path, mode: int) -> None:
    key.chmod(mode)
    assert str(refusal(str(key))) == (
        "error: open-key\n"
        f"  the private key is not its owner's alone (mode {mode:o})\n"
        f"  where: {key}\n"
        f"  fix:   make a new key: others may have read it; or chmod 600 {key}"
    )


@pytest.mark.needs("openssl")
def test_key_that_is_none_is_named(key: Path, tmp_path: Path) -> None:
    assert refusal(str(tmp_path / "none")).name == "no-key"
    assert refusal(str(keys.public_path(key))).name == "open-key"
    for number, data in enumerate((b"", b"garbage", key.read_bytes()[:60], b"x" * (1 << 17))):
        path = tmp_path / f"bad-{number}"
        path.write_bytes(data)
        path.chmod(0o600)
        assert refusal(str(path)).name == "bad-key", data[:20]
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert refusal(str(tmp_path / "pipe")).name == "bad-key"
    subprocess.run([*RSA, "-out", tmp_path / "rsa"], check=True, capture_output=True)
    (tmp_path / "rsa").chmod(0o600)
    assert refusal(str(tmp_path / "rsa")).fact == "the private key is not of the kind ed25519"
    assert refusal("exec:").name == "no-key"
    assert refusal(f"agent:{tmp_path / 'none'}").name == "no-key"


@pytest.mark.needs("ssh-keygen")
def test_key_with_a_passphrase_is_left_to_an_agent(tmp_path: Path) -> None:
    path = tmp_path / "id"
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "open sesame", "-f", str(path)]
    subprocess.run(argv, check=True)
    error = refusal(str(path))
    assert error.fact == "the private key has a passphrase, which nobody is asked for"
    assert error.fix == f"ssh-add {path}, and name agent:{path}.pub"


@pytest.mark.needs("openssl")
def test_files_of_public_keys_may_hold_several_and_each_must_be_one(
    key: Path, tmp_path: Path
) -> None:
    keys.new_key(tmp_path / "other.key")
    both = tmp_path / "signers.pub"
    one, other = keys.public_path(key), tmp_path / "other.key.pub"
    both.write_bytes(b"# ours\n" + one.read_bytes() + other.read_bytes())
    assert [k.keyid for k in keys.public_keys(both)] == [
        keys.public_keys(path)[0].keyid for path in (one, other)
    ]
    subprocess.run([*RSA, "-out", tmp_path / "rsa"], check=True, capture_output=True)
    argv = ["openssl", "pkey", "-in", tmp_path / "rsa", "-pubout"]
    rsa = subprocess.run(argv, check=True, capture_output=True).stdout
    cut = one.read_bytes().replace(b"MCow", b"MCox")
    for data in (b"", b"# nobody\n", cut, one.read_bytes() + rsa, one.read_bytes() * 65):
        both.write_bytes(data)
        with pytest.raises(BlackwheelError, match="bad-key"):
            keys.public_keys(both)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[dict[str, str]]:
    place = f"/tmp/bw-agent-{os.getpid()}"  # noqa: S108  the path of a socket is short
    with subprocess.Popen(["ssh-agent", "-D", "-a", place], stdout=subprocess.DEVNULL) as process:
        for _ in range(200):
            if Path(place).exists():
                break
            threading.Event().wait(0.05)
        yield {**PATH, "SSH_AUTH_SOCK": place}
        process.terminate()


@pytest.mark.needs("ssh-agent", "ssh-keygen")
def test_agent_signs_what_its_public_key_verifies(agent: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "id"
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(argv, check=True)
    signer = keys.signer(f"agent:{path}.pub", agent)
    with pytest.raises(BlackwheelError, match="refuses: it does not hold this key"):
        signer.sign(b"bytes")
    subprocess.run(["ssh-add", "-q", str(path)], check=True, env=agent)
    statement = b'{"_type": "https://in-toto.io/Statement/v1"}'
    (one,) = envelope.parsed(
        envelope.signed([statement], signer), tmp_path / "x", keys.public_keys(Path(f"{path}.pub"))
    )
    assert one.signers == (signer.public.keyid,)
    assert keys.signer(str(path), {}).sign(b"bytes") == signer.sign(b"bytes")


@pytest.mark.parametrize(
    "answer", [b"", b"\0\0\0", b"\0\0\0\5\5", b"\xff\xff\xff\xff", b"\0\0\0\1\5"]
)
def test_agent_that_lies_is_named(key: Path, tmp_path: Path, answer: bytes) -> None:
    place = f"/tmp/bw-liar-{os.getpid()}"  # noqa: S108  the path of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(place)
        server.listen(1)

        def lie() -> None:
            with server.accept()[0] as client:
                client.recv(1 << 16)
                client.sendall(answer)

        thread = threading.Thread(target=lie)
        thread.start()
        signer = keys.signer(f"agent:{keys.public_path(key)}", {"SSH_AUTH_SOCK": place})
        try:
            with pytest.raises(BlackwheelError, match="signer-failed"):
                signer.sign(b"bytes")
        finally:
            thread.join()
            Path(place).unlink()
    with pytest.raises(BlackwheelError, match="does not answer"):
        signer.sign(b"bytes")


HOOK = """\
#!{python}
import base64, sys
from cryptography.hazmat.primitives.serialization import load_pem_private_key
if sys.argv[1] == "public":
    print(open({public!r}).read())
else:
    private = load_pem_private_key(open({key!r}, "rb").read(), None)
    {body}
"""


def hook(key: Path, body: str) -> str:
    program = key.parent / "hook"
    text = HOOK.format(
        python=sys.executable, public=str(keys.public_path(key)), key=str(key), body=body
    )
    program.write_text(text, encoding="utf-8")
    program.chmod(0o755)
    return f"exec:{program}"


def test_program_signs_what_it_reads(key: Path, tmp_path: Path) -> None:
    right = "print(base64.b64encode(private.sign(sys.stdin.buffer.read())).decode())"
    signer = keys.signer(hook(key, right), PATH)
    assert signer.sign(b"bytes") == keys.signer(str(key), {}).sign(b"bytes")
    for body, fact in (
        ("sys.exit('no touch')", "ended with code 1\nno touch"),
        ("print('?')", "printed no base64"),
    ):
        with pytest.raises(BlackwheelError, match="signer-failed") as caught:
            keys.signer(hook(key, body), PATH).sign(b"bytes")
        assert caught.value.fact == f"the program that signs {fact}"
    other = "print(base64.b64encode(private.sign(b'else')).decode())"
    with pytest.raises(BlackwheelError, match="the signature that came back is not one of its"):
        envelope.signed([b"{}"], keys.signer(hook(key, other), PATH))
    with pytest.raises(BlackwheelError, match="program-missing"):
        keys.signer(f"exec:{tmp_path / 'none'}", PATH)
