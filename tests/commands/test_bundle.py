"""What a person sends back tells what happened, and nothing of who they are."""

from __future__ import annotations

import io
import json
import platform
import re
import tarfile

import proved
import pytest

from blackwheel.commands import bundle
from blackwheel.core import redact

PLANTED = {
    "HF_TOKEN": "value-of-a-variable",
    "HTTPS_PROXY": "http://mallory:pass-of-proxy@proxy.corp.example:3128",
    "UV_DEFAULT_INDEX": "https://wheels.corp.example/simple?key=query-of-index",
    "USER": "mallory",
}
HOME = "/home/mallory"
SECRETS = (
    *(
        "value-of-a-variable",
        "pass-of-proxy",
        "query-of-index",
        "corp.example",
        "mallory",
        "mirror.own",
    ),
    *("hf_" + "a1B2" * 6, "ghp_" + "c3D4" * 9, "AKIA" + "Z" * 16, "pass-in-address"),
    *("eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0", "said-by-another", "signed-away", "in-a-header"),
)
"""None of these may be in any member, in no case of letters."""
LINES = f"""\
nvcc -I{HOME}/blackwheel/include -c one.cu
fetching https://mallory:pass-in-address@git.corp.example/a.git
fetching https://mirror.own.example/a.git for https://upstream.invalid/a.git
fetching https://cdn.example/wheel.whl?signature=signed-away&expires=1
HF_TOKEN is value-of-a-variable, OTHER_API_KEY=said-by-another and "MY_SECRET": "said-by-another"
Authorization: Bearer in-a-header
hf_{"a1B2" * 6} ghp_{"c3D4" * 9} AKIA{"Z" * 16} eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0
on {platform.node()} of mallory: ptxas died with signal 9
"""


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A bundle of a checkout in whose every file somebody left secrets."""
    root = tmp_path_factory.mktemp("bundle")
    proved.new_checkout(root)
    (root / "gitconfig").write_text(
        '[url "https://mirror.own.example/"]\n\tinsteadOf = https://upstream.invalid/\n'
    )
    here = proved.site_of(root, {**PLANTED, "HOME": HOME, "GIT_CONFIG_GLOBAL": f"{root}/gitconfig"})
    code = proved.library(root)
    for name in proved.PROJECTS:
        proved.shelve(here, proved.make_wheel(root / "made", name, code))
    (receipt,) = (here.wheels / "toy").glob("toy-*.receipt.json")
    document = json.loads(receipt.read_text())
    document["predicate"]["said"] = LINES
    receipt.write_text(json.dumps(document))
    build = here.store / "builds" / "toy" / "toy" / proved.TAG
    build.mkdir(parents=True)
    (build / "build.log").write_text("the first line\n" + "again\n" * 500 + LINES)
    (here.store / "smoke").mkdir(exist_ok=True)
    (here.store / "smoke" / "toy.whl.json").write_text(json.dumps({"fact": LINES}))
    path = bundle.show_bundle(here, "toy", here.checkout)
    assert f"\n{path}\n" in proved.said(here)
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as archive:
        for member in archive:
            assert (member.mtime, member.uid, member.uname) == (0, 0, "")
        files = {one.name: archive.extractfile(one) for one in archive.getmembers()}
        return {name: file.read().decode() for name, file in files.items() if file}


def test_bundle_holds_what_a_failure_is_judged_by(texts: dict[str, str]) -> None:
    names = [name.removeprefix("blackwheel-report/") for name in texts]
    assert names[:5] == [
        *("README.txt", "versions.txt", "nvidia-smi.txt", "doctor.txt", "doctor-serve.txt")
    ]
    assert len([name for name in names if name.startswith("receipts/")]) == 2
    assert names[-2:] == ["smoke/toy.whl.json", f"builds/toy-toy-{proved.TAG}.log"]
    log = texts[f"blackwheel-report/{names[-1]}"]
    assert "ptxas died with signal 9" in log
    assert "nvcc -I~/blackwheel/include -c one.cu" in log
    assert "the first line" not in log


def test_no_member_holds_a_secret_a_name_or_a_host(texts: dict[str, str]) -> None:
    for name, text in texts.items():
        for secret in SECRETS:
            assert secret.lower() not in text.lower(), (name, secret)
        host = re.escape(platform.node())  # which may be a part of a word
        assert not re.search(rf"(?<!\w){host}(?!\w)", text, re.IGNORECASE), name


def test_what_was_json_still_is(texts: dict[str, str]) -> None:
    receipts = [text for name, text in texts.items() if "receipt" in name and "/toy-1.0" in name]
    assert receipts
    for text in receipts:
        said = json.loads(text)["predicate"]["said"]
        assert said.endswith("of USER: ptxas died with signal 9\n")
        assert "HOST/a.git for https://upstream.invalid/a.git" in said
        assert '"MY_SECRET": "****"' in said


def test_ordinary_words_stay() -> None:
    clean = redact.Redactor(
        environment={"PATH": "/usr/bin"}, home="/srv/kim", user="kim", host="box"
    )
    for text in ("kimono at /srv/kimfs/x", "boxes", "200 tokens in 767 ms", "a@b", "x = y?z"):
        assert clean(text) == text
    assert clean("/srv/kim/.cache on box") == "~/.cache on HOST"
