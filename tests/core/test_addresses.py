"""Addresses that a person types, and what is said of those that are none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from blackwheel.core.addresses import index_cure, require_address
from blackwheel.core.errors import BlackwheelError
from blackwheel.toolchain.host_compiler import host_compiler

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "address",
    ["http://[::1", "http://[x", "http://h:99999/", "http://h:x/", "http://", "http://a b/"],
)
def test_an_address_that_is_none_is_named(address: str) -> None:
    with pytest.raises(BlackwheelError) as error:
        require_address(address, "--to")
    assert (error.value.name, error.value.where) == ("bad-address", "--to")


@pytest.mark.parametrize("address", ["http://[::1]:8080/x", "https://h/simple/", "file:///a"])
def test_an_address_is_taken(address: str) -> None:
    require_address(address, "--to")


@pytest.mark.parametrize(
    ("why", "cure"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed", "SSL_CERT_FILE"),
        ("Missing dependencies for SOCKS support.", "pysocks"),
        ("answers 503 Busy (2 tries)", "later"),
        ("is no page of an index but text/plain", "browser"),
        ("Name or service not known", "UV_DEFAULT_INDEX"),
    ],
)
def test_the_cure_fits_the_cause(why: str, cure: str) -> None:
    assert cure in index_cure(why)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["publish", "--to", "http://[::1"], "bad-address"),
        (["publish", "--to", "/x", "--simple", "http://[x"], "bad-address"),
        (["publish", "--to", "/x", "--minutes", "x"], "bad-number"),
        (["publish", "--to", "/x", "--minutes", "²"], "bad-number"),
        (["prune", "--keep", "x"], "bad-number"),
        (["lock-consumer", "--revision", "x"], "bad-number"),
    ],
)
def test_what_is_typed_wrong_is_no_traceback(words: list[str], name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "invoke", *words, "--stack", "quickstart"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, f"error: {name}")


@pytest.mark.parametrize(("cxx", "cure"), [("ccache g++", "CXX=g++"), ("g++ -m64", "CXX=g++")])
def test_a_compiler_with_arguments_is_named_so(cxx: str, cure: str) -> None:
    with pytest.raises(BlackwheelError) as error:
        host_compiler({"CXX": cxx, "PATH": "/usr/bin:/bin"}, cuda="13.0.2")
    assert "several words" in error.value.fact
    assert cure in error.value.fix
