"""Secrets, hosts and names that a bundle must not hold, in the forms that people have them."""

from __future__ import annotations

import pytest

from blackwheel.core.redact import Redactor

S = "Zq7" * 8
PEM = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{S}\n{S}\n-----END OPENSSH PRIVATE KEY-----"


@pytest.mark.parametrize(
    "line",
    [
        f"GPG_PASSPHRASE={S}",
        f"GITLAB_PAT={S}",
        f"NPM_AUTH={S}",
        f"SIGNING_KEY={S}",
        f"DB_PASS={S}",
        f"DB_PWD={S}",
        f"SESSION_COOKIE={S}",
        f"signing_key_pem: {S}",
        f"ENCRYPTION_KEY_2={S}",
        f"machine nexus.corp login bob password {S}",
        f"curl -u bob:{S} https://nexus.example/x",
        f"curl --user bob:{S} x",
        f"twine upload --password {S} dist",
        f"twine upload --password={S} dist",
        PEM,
        PEM.rpartition("\n")[0],
        f"AIza{S}{S}",
        f"npm_{S}",
        f"dckr_pat_{S}",
        f"SG.{S}.{S}",
        f"ghp_{S}",
    ],
)
def test_secret_is_gone(line: str) -> None:
    told = Redactor(environment={})(line)
    assert S not in told
    assert "bob:" not in told


@pytest.mark.parametrize(
    "name",
    ["GPG_PASSPHRASE", "GITLAB_PAT", "NPM_AUTH", "DB_PWD", "DB_PASS", "SIGNING_KEY", "X_COOKIE"],
)
def test_value_of_a_secret_variable_is_gone_wherever_it_stands(name: str) -> None:
    assert S not in Redactor(environment={name: S})(f"it said {S} there")


def test_hosts_of_ones_own_are_gone_in_every_notation() -> None:
    clean = Redactor(
        environment={"HTTPS_PROXY": "proxy.corp.example:3128", "PWD": "/a/b"},
        mirrors=("url.git@git.corp.example:",),
    )
    told = clean(
        "proxy.corp.example refused; git.corp.example: away; bob@mirror.corp.example:x/y.git"
        " from git@github.com:a/b in /a/b"
    )
    assert "corp.example" not in told
    assert "git@github.com:a/b in /a/b" in told
    assert "bob" not in told


@pytest.mark.parametrize(
    "line",
    [
        "nvcc -gencode arch=compute_120a,code=sm_120a -u x"[:48],
        "key: value of a stack; keys stay: author, path, compat, monkey",
        "flash_attn-2.8.3+cu130torch2.11.0.sm120a.3-cp312-cp312-linux_x86_64.whl",
        '"key": "sha256:abc", "keyed": 1',
    ],
)
def test_plain_words_stay(line: str) -> None:
    assert Redactor(environment={})(line) == line
