"""Targets that this package writes itself, and finds again in a store or on a shelf."""

from __future__ import annotations

import functools
import hashlib
import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest import mock

import many_wheels
import proved
from mutators import as_json, changed_bytes, changed_tree, json_files, json_lines, texts
from target import Target, folder, written

from blackwheel.audit import audit, exports
from blackwheel.builder import (
    arch_plan,
    build,
    compile_cache,
    memory_pool,
    reuse,
    timeline,
    timeline_page,
)
from blackwheel.commands import views
from blackwheel.core import archs, download, settled
from blackwheel.core.site import Site
from blackwheel.pipeline import patch_proof, session_file, session_records, todo
from blackwheel.receipts import beside, document
from blackwheel.shelf import index, landing_page, verify, verify_pages, verify_receipt, wheel_facts
from blackwheel.sources import patch
from blackwheel.stacks import loader, records
from blackwheel.stacks.ask import for_pythons
from blackwheel.stacks.request import left_out
from blackwheel.toolchain import layout


@functools.cache
def site() -> Site:
    """A checkout with two proved wheels on its shelf."""
    made = proved.new_checkout(folder("checkout"))
    code = proved.library(folder("code"))
    for name in proved.PROJECTS:
        proved.shelve(made, proved.make_wheel(folder("made"), name, code))
    index.show_all(made.wheels)
    return made


@functools.cache
def wheel() -> index.ShelvedWheel:
    return index.shelved(site().wheels / "toy")[-1]


@functools.cache
def receipt() -> dict[str, Any]:
    return dict(json.loads(wheel().receipt.read_bytes()))


@functools.cache
def sections() -> dict[str, Any]:
    """What a whole receipt holds, with all that a GPU and a long build add."""
    known = dict(document.sections(receipt()))
    rich = many_wheels.sections("toy", device="NVIDIA GeForce RTX 5090")
    held = {name: {**rich.get(name, {}), **dict(section)} for name, section in known.items()}
    held["objects"] = {**known["objects"], "each": many_wheels.objects(4)}
    held["smoke"] = rich["smoke"]
    held["audit"] = {**rich["audit"], **known["audit"]}
    return json.loads(json.dumps(held))


@functools.cache
def toy() -> records.Stack:
    return loader.load("toy", site().constraints)


@functools.cache
def work() -> todo.Work:
    request, python = for_pythons(site(), "toy", proved.PYTHON)[-1]
    return todo.work(site(), request, python)


@functools.cache
def audited() -> audit.AuditReport:
    expected = audit.expectation(work().request)
    return audit.inspect(wheel().path, archs=[archs.parse("12.0a")], expected=expected)


def receipt_file(data: bytes) -> object:
    path = written(folder("receipt") / f"{wheel().path.name}.receipt.json", data)
    held = document.load(path)
    return document.verify(held, wheel().path)


def receipt_sections(data: bytes) -> object:
    """A receipt whose digests are right again: what it says reaches every reader."""
    try:
        held = json.loads(data)
        made = document.receipt(wheel().path.name, wheel().sha256, held)
        content = document.content(made)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None  # our own writer does not write that
    before = wheel().receipt.read_bytes()
    wheel().receipt.write_bytes(content)
    stack, report = toy(), audited()  # neither the stack nor the wheel changes
    try:
        with (
            mock.patch.object(loader, "load", lambda *_: stack),
            mock.patch.object(audit, "inspect", lambda *_, **__: report),
        ):
            checks = verify.verify(site(), wheel().path)
        return checks, list(landing_page.pages(site().wheels / "toy", [wheel()]))
    finally:
        wheel().receipt.write_bytes(before)


def receipt_key(data: bytes) -> object:
    """All that a run with nothing to do, `status` and `prune` read of a receipt."""
    before = wheel().receipt.read_bytes()
    wheel().receipt.write_bytes(data)
    try:
        found = beside.key_section(wheel().receipt)
        item = work()
        with (
            mock.patch.object(views, "requests", lambda *_, **__: ((item.request,), item.python)),
            mock.patch.object(views, "work", lambda *_, **__: item),
        ):
            state = views._state(site(), toy(), found)
        return index.current(wheel(), toy()), state, todo.looked_up(site(), item)
    finally:
        wheel().receipt.write_bytes(before)


def shelf_page(data: bytes) -> object:
    place = folder("page-shelf")
    for path in (site().wheels / "toy").glob("*.whl*"):
        with suppress(FileExistsError):
            (place / path.name).symlink_to(path)
    written(place / "simple/toy/index.json", data)
    found = index.shelved(place)
    return found, list(verify_pages.page_checks(place))


def people_page(data: bytes) -> object:
    place = folder("people-shelf/toy")
    for path in (site().wheels / "toy").rglob("*"):
        target = place / path.relative_to(site().wheels / "toy")
        if path.is_file() and not target.exists():
            written(target, path.read_bytes())
    written(place / "index.html", data)
    drawn = drawn_pages(place)
    landing_page.is_current(place / "index.html")
    landing_page.is_ours(place / "index.html")
    with mock.patch.object(verify_pages.landing_page, "pages", lambda *_: drawn):
        return list(verify_pages.page_checks(place))


@functools.cache
def drawn_pages(place: Path) -> list[tuple[Path, str]]:
    return list(landing_page.pages(place, index.shelved(place)))


def objects(data: bytes) -> object:
    store = folder("objects")
    path = written(store / "builds/toy/toy/cp312" / "work" / "objects.jsonl", data)
    memory_pool.settings((), 2, memory_pool.history(store, "toy"))
    shop = SimpleNamespace(records=path, src=store / "builds/toy/toy/cp312/src")
    build._recorded(shop, "build")
    found = timeline.records(path)
    if not found:
        return None
    timeline_page.recorded_page("toy", [json.loads(json.dumps(one)) for one in found], ())
    run = timeline.drawn(found)
    lines = timeline.told(run)
    rows = [timeline.row(one) for one in timeline.slowest(run)]
    return rows, timeline_page.page("toy", lines, run)


def made_with(data: bytes) -> object:
    place = folder("made-with/toy")
    written(place / "src" / "a", b"")
    path = written(place / reuse._FILE, data)
    shop = mock_shop(place)
    reuse.begin_anew_unless_same(
        shop,
        dict(MADE_WITH),
        store=folder("made-with"),
        slug="toy",
        project="toy",
        objects="build",
        console=site().console,
    )
    return path


def mock_shop(place: Path) -> SimpleNamespace:
    return SimpleNamespace(root=place, src=place / "src", records=place / "objects.jsonl")


def toolchain(data: bytes) -> object:
    place = written(folder("toolchain") / "toolchain.json", data).parent
    return layout.faults(place, "a" * 64, folder("toolchain-store"))


def exports_table(data: bytes) -> object:
    signed = hashlib.sha256(data).hexdigest().encode() + b"\n" + data
    found = exports._load(written(folder("exports") / "a.json", signed))
    if found is None:
        return None
    table = exports.Exports(torch="2.11.0", python="cpython-312", libraries=found)
    return table.owner("a"), table.reach(["libtorch.so"])


def manifest(data: bytes) -> object:
    return patch.synced(written(folder("manifest") / "a.json", data))


def digests(data: bytes) -> object:
    return settled._read(written(folder("digests") / "1.json", data))


def cache_figures(data: bytes) -> object:
    found = compile_cache.figures(written(folder("stats") / "stats.json", data).parent)
    return compile_cache.told(found) if found else ""


def plan_file(data: bytes) -> object:
    return patch_proof.load_plan(written(folder("plan") / "a.json", data))


def proofs_file(data: bytes) -> object:
    return patch_proof.load_proofs(written(folder("proofs") / "a.json", data))


def download_note(data: bytes) -> object:
    part = folder("note") / "a.whl.part"
    written(download._note(part), data)
    return download._validator(part, "https://index.example/a.whl")


def build_order(data: bytes) -> object:
    path = written(folder("order") / "a.json", data)
    path.chmod(0o600)
    return session_file.read(path, session_file.BuildOrder)


def smoke_order(data: bytes) -> object:
    path = written(folder("order") / "b.json", data)
    path.chmod(0o600)
    return session_file.read(path, session_file.SmokeOrder)


def record_lines(data: bytes) -> object:
    return session_records.Reader(written(folder("order") / "a.jsonl", data)).read()


def receipts(dice: Random) -> bytes:
    """A receipt in the form of its writer, with values that its chain does not cover any more."""
    value = changed_tree(dice, [receipt()])
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    data = text.encode("utf-8", "surrogatepass")
    return data if dice.randint(0, 7) else changed_bytes(dice, data)


def keys(dice: Random) -> bytes:
    """A receipt with one to three places of its key changed."""
    whole = receipt()
    stack = whole["predicate"]["buildDefinition"]["externalParameters"]["stack"]
    own = {**stack, "key": changed_tree(dice, [stack["key"]])}
    definition = {"externalParameters": {"stack": own}}
    return as_json({**whole, "predicate": {"buildDefinition": definition}})


def chained(dice: Random) -> bytes:
    """A receipt with one to three places changed and right digests."""
    held = sections()
    stage = dice.choice(sorted(held))
    return as_json({**held, stage: changed_tree(dice, [held[stage]])})


@functools.cache
def order() -> dict[str, Any]:
    request, python = for_pythons(site(), "toy", proved.PYTHON)[0]
    item = todo.work(site(), request, python, again=True)
    made = session_file.build_order(item, request.lock("build", site().constraints))
    return dict(json.loads(json.dumps(asdict(made), default=str)))


@functools.cache
def smoke() -> dict[str, Any]:
    stack = loader.load("toy", site().constraints)
    group = session_file.SmokeGroup(
        stack="toy", python="3.12", where="3.12", here=True, wheels=(wheel().path,), locks=()
    )
    made = session_file.SmokeOrder(
        stack="toy", python="3.12", groups=(group,), stacks={"toy": stack}
    )
    return dict(json.loads(json.dumps(asdict(made), default=str)))


MADE_WITH = {
    "recipe": "3",
    "isolation": "namespaces",
    "torch": "2.11.0",
    "settings": "a" * 64,
    "variables": "b",
}
OBJECTS = [
    [
        {**one, "object": f"build/temp/{one['source']}.o", "archs": ["sm_120a"]}
        for one in many_wheels.objects(3)
    ]
]
TOOLCHAIN = {"digest": "a" * 64, "files": {"cuda/bin/nvcc": "123", "cuda/lib64": "-> lib"}}
EXPORTS = {
    name: {"needed": ["libc.so.6"], "exports": ["a", "b"]}
    for name in ("libtorch.so", "libtorch_global_deps.so", "python")
}
DIGESTS = {"1 2 3 4 5": "a" * 64}
STATS = {
    "stats": {
        "cache_hits": {"counts": {"CUDA": 5, "C/C++": 1}, "adv_counts": {}},
        "cache_misses": {"counts": {"PTX": 1}},
        "cache_errors": {"counts": {}},
        "not_cached": {"-E": 3},
        "dist_compiles": {"a": 1},
        "dist_errors": 0,
        "cache_write_errors": 0,
    }
}
PLAN = {
    "objects": [
        {"target": "_C", "source": "a.cu", "archs": ["sm_120a"], "missing": [], "command": "a" * 64}
    ],
    "lists": [["LIST", "12.0a"]],
    "metadata": ["Name: toy"],
    "files": {"toy/__init__.py": "a" * 64},
    "texts": {"a.cu": "b" * 64},
    "failure": "",
}
PROOFS = [{"patch": "0001-a.patch", "effects": ["a"], "apart_from": [], "given": [], "inputs": ""}]
NOTE = {"url": "https://index.example/a.whl", "validator": '"abc"'}
LINES = [
    [
        {"done": 1, "total": 3, "note": "2 jobs", "left": 1.5, "record": "progress"},
        {"wheel": "/a/b.whl", "record": "made"},
        {"code": 0, "record": "ended"},
    ]
]


def _one(name: str, parse: Any, seed: Any, *covers: Any, **more: Any) -> Target:
    return Target(
        name=name,
        parse=parse,
        seeds=[as_json(seed)],
        inputs=json_files([seed]),
        covers=covers,
        **more,
    )


def _lines(name: str, parse: Any, seeds: Any, *covers: Any) -> Target:
    text = [b"\n".join(as_json(one) for one in seed) + b"\n" for seed in seeds]
    return Target(name=name, parse=parse, seeds=text, inputs=json_lines(seeds), covers=covers)


def targets() -> list[Target]:
    shelf = site().wheels / "toy"
    page = json.loads((shelf / "simple/toy/index.json").read_bytes())
    html = [(shelf / "index.html").read_bytes()]
    return [
        Target(
            name="receipt",
            parse=receipt_file,
            seeds=[wheel().receipt.read_bytes()],
            inputs=receipts,
            covers=(document,),
        ),
        Target(
            name="receipt, key",
            parse=receipt_key,
            seeds=[wheel().receipt.read_bytes()],
            inputs=keys,
            covers=(beside, views._state, index.current, todo.looked_up, left_out),
        ),
        Target(
            name="receipt, sections",
            parse=receipt_sections,
            seeds=[as_json(sections())],
            inputs=chained,
            covers=(wheel_facts, landing_page, verify, verify_receipt),
        ),
        _one("page of a shelf", shelf_page, page, index._listed, index.current, verify_pages),
        Target(
            name="page for people",
            parse=people_page,
            seeds=html,
            inputs=texts(html),
            covers=(verify_pages, landing_page.is_ours, landing_page.is_current),
        ),
        _lines("objects.jsonl", objects, OBJECTS, timeline, memory_pool.history, timeline_page),
        _one("made-with.json", made_with, MADE_WITH, reuse.begin_anew_unless_same),
        _one("toolchain.json", toolchain, TOOLCHAIN, layout.faults),
        _one("exports/*.json", exports_table, EXPORTS, exports._load, exports.Exports),
        _one("list of a build tree's files", manifest, {"files": ["a", "b/c"]}, patch.synced),
        _one("digests/*.json", digests, DIGESTS, settled._read),
        _one(
            "figures of the cache", cache_figures, STATS, compile_cache.figures, compile_cache.told
        ),
        _one("kept plan", plan_file, PLAN, patch_proof.load_plan, arch_plan.parse),
        _one("kept proofs", proofs_file, PROOFS, patch_proof.load_proofs),
        _one("note of a download", download_note, NOTE, download._validator),
        _one("session file, build", build_order, order(), session_file.read),
        _one("session file, smoke", smoke_order, smoke(), session_file.read),
        _lines("session records", record_lines, LINES, session_records.Reader),
    ]
