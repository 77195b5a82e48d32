"""What is known of a project is read whole, with every fault at once; none of it is in a key."""

from __future__ import annotations

import ast
import re
import shutil
import tomllib
from dataclasses import fields, replace
from pathlib import Path

import pytest

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.smoke.checks import runner
from blackwheel.sources.series import load_series, patch_digests
from blackwheel.stacks import loader, projects
from blackwheel.stacks.faults import record_of
from blackwheel.stacks.key import key
from blackwheel.stacks.records import ProjectPin, Stack
from blackwheel.stacks.request import Request

ROOT = Path(__file__).parents[2]
PATCHES = ROOT / "patches"
STABLE = loader.load("stable", ROOT / "constraints")
EITHER = "refuse.0: either variable and lacks or has, or names"
PAGE = (ROOT / "docs" / "add-a-project.md").read_text(encoding="utf-8")


def written(folder: Path, text: str) -> Path:
    path = folder / "toy" / "project.toml"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    return folder


def refused(folder: Path) -> BlackwheelError:
    with pytest.raises(BlackwheelError) as raised:
        projects.load(folder, "toy")
    assert raised.value.code is Exit.CONFIG
    return raised.value


def test_every_fault_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    text = """
        [build]
        objekts = "made"
        tree_gib = "2"
        lists = "no group"
        costs = [
          { source = "*", gib = 2000, seconds = 1, only = { lower = "x" } }, { source = "a" },
        ]
        [[refuse]]
        newer_than = "9.x"
        what = "is it"
        why = []
        fix = "a\\nb"
        [serve]
        port = 0
        model = "m"
        command = ["("]
        log = { speed = "(" }
    """
    assert str(refused(written(tmp_path, text))) == (
        "error: bad-project\n"
        "  11 faults:\n"
        "  build.lists: a regular expression with 2 groups is wanted, not 'no group'\n"
        "  build.tree_gib: input should be a valid integer, not '2'\n"
        "  build.costs.0.gib: input should be less than or equal to 1024, not 2000\n"
        "  build.costs.0.only.lower.[key]: 'lower' does not match ^[A-Z][A-Z0-9_]*$\n"
        "  build.costs.1.gib: missing\n"
        "  build.costs.1.seconds: missing\n"
        "  build.objekts: unknown key; did you mean 'objects'?\n"
        "  refuse.0.fix: 'a\\nb' does not match ^[^\\r\\n\\t]+$\n"
        "  refuse.0.newer_than: '9.x' is no compute capability, not '9.x'\n"
        "  serve.port: input should be greater than or equal to 1, not 0\n"
        "  serve.log.speed: a regular expression is wanted"
        " (missing ), unterminated subpattern at position 0), not '('\n"
        "  where: patches/toy/project.toml\n"
        "  fix:   correct the keys named above"
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('variable = "V"', EITHER),
        ('variable = "V"\nlacks = "w"\nnames = ["x"]', EITHER),
        ('variable = "V"\nlacks = "w"\nhas = "x"', EITHER),
        ("", EITHER),
        ('names = ["x"]\nother_than = 12', "refuse.0: either newer_than or other_than"),
        ('names = ["x"]', "refuse.0.why: missing: say why"),
    ],
)
def test_refusal_names_a_variable_or_names_and_says_why(
    tmp_path: Path, text: str, fault: str
) -> None:
    why = "" if "say why" in fault else '{ text = "because" }'
    rest = f'newer_than = "9.0"\nwhat = "is it"\nfix = "none"\nwhy = [{why}]\n'
    assert refused(written(tmp_path, f"[[refuse]]\n{text}\n{rest}")).fact == f"1 fault:\n{fault}"


def test_states_and_what_serves_belong_together(tmp_path: Path) -> None:
    text = """
        [[smoke.neighbours]]
        distribution = "a"
        title = "A"
        states = [{ how = "no" }, { beside = "b", how = "yes" }]
        [serve]
        port = 1
        model = "m"
        command = ["c"]
        compiles = "A"
    """
    assert refused(written(tmp_path, text)).fact == (
        "2 faults:\nsmoke.neighbours.0.states: only the last one has no beside\n"
        "serve: compiles and without_nvcc belong together"
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("# " + 70_000 * "x", "longer than 65536 bytes"),
        ("build = [", "not TOML: "),
        ("[build]\nstale = [" + 101 * '"a",' + "]", "build.stale: tuple should have at most 100"),
        ('[serve]\nport = 1\ncommand = ["c"]\nmodel = "' + 301 * "m" + '"', "serve.model: string"),
        ('[build]\nobjects = "../other"', "build.objects: a path inside the tree is wanted"),
    ],
)
def test_file_is_bounded(tmp_path: Path, text: str, fault: str) -> None:
    assert f"1 fault:\n{fault}" in refused(written(tmp_path, text)).fact


def test_of_a_project_without_the_file_nothing_is_known(tmp_path: Path) -> None:
    assert projects.load(tmp_path, "toy") == projects.Project()
    pin = STABLE.projects["flash-attn"]
    assert projects.Project().largest_object(pin) == projects.UNKNOWN_GIB << 30


@pytest.mark.parametrize(
    ("passes", "gib"), [(None, 7), ("fwd,split,bwd", 7), ("fwd,split", 5), ("fwd", 5), ("bwd", 7)]
)
def test_largest_object_is_one_that_is_compiled(passes: str | None, gib: int) -> None:
    pin = STABLE.projects["flash-attn"]
    if passes:
        pin.variables["FLASH_ATTN_PASSES"] = passes
    known = projects.load(PATCHES, "flash-attn")
    try:
        assert known.largest_object(pin) == gib << 30
    finally:
        pin.variables.pop("FLASH_ATTN_PASSES", None)


def test_every_project_that_is_known_is_built_by_a_stack() -> None:
    """A misspelt folder would be read by nobody."""
    stacks = [
        loader.load(name, ROOT / "constraints") for name in loader.names(ROOT / "constraints")
    ]
    names = {name for stack in stacks for name in stack.build}
    assert set(projects.known(PATCHES)) <= names
    assert {path.parent.name for path in PATCHES.glob("*/*.py")} <= names


def test_nothing_beside_a_series_is_in_the_key(tmp_path: Path) -> None:
    shutil.copytree(PATCHES / "flash-attn", tmp_path / "flash-attn")
    (tmp_path / "flash-attn" / "project.toml").write_text("[build]\ntree_gib = 9\n")
    (tmp_path / "flash-attn" / "checks.py").unlink()
    (tmp_path / "flash-attn" / "2.8.3" / "notes.txt").write_text("anything")
    request = Request(stack=STABLE, project="flash-attn", python="3.12", archs=STABLE.archs)

    def digest(patches: Path) -> str:
        series = load_series(patches / "flash-attn" / "2.8.3")
        return key(
            request,
            patches=patch_digests(series),
            constraints=ROOT / "constraints",
            isolation="namespaces",
        ).digest

    before = digest(PATCHES)
    assert digest(tmp_path) == before
    patch = tmp_path / "flash-attn" / "2.8.3" / "0001-setup-take-arch-tokens.patch"
    patch.write_bytes(patch.read_bytes() + b"\n")
    assert digest(tmp_path) != before, "the test sees a change at all"


FORWARD = {"fwd": "forward", "bwd": "backward (training)"}


@pytest.mark.parametrize(
    ("given", "left_out", "can", "cannot"),
    [
        ({}, False, ["forward", "backward (training)"], []),
        ({"V": "fwd"}, False, ["forward"], ["backward (training)"]),
        ({"V": "fwd, other"}, False, ["forward", "other"], ["backward (training)"]),
        ({"V": ""}, True, [], []),
        ({"V": "bwd,other"}, True, [], ["backward (training)", "other"]),
    ],
)
def test_words_of_a_part_follow_its_build_variable(
    given: dict[str, str], left_out: bool, can: list[str], cannot: list[str]
) -> None:
    part = projects.Part(title="passes", variable="V", words=FORWARD, left_out=left_out)
    assert part.limits(given) == {"title": "passes", "can": can, "cannot": cannot}


def test_words_of_every_project_are_those_of_its_variables() -> None:
    """A word that a stack gives and no table knows would stand on a page as it is."""
    for name in loader.names(ROOT / "constraints"):
        stack = loader.load(name, ROOT / "constraints")
        for project in stack.build:
            for part in projects.load(PATCHES, project).holds:
                text = stack.projects[project].variables.get(part.variable, "")
                given = set(filter(None, text.replace("{without}", "").split(",")))
                assert given <= set(part.words), (name, project, part.title)
                assert not part.left_out or set(stack.projects[project].optional) <= set(part.words)
    quick = loader.load("quickstart", ROOT / "constraints").projects["flash-attn"].variables
    known = projects.load(PATCHES, "flash-attn").holds
    assert [(part.limits(quick)["can"], part.limits(quick)["cannot"][-1]) for part in known] == [
        (["forward"], "backward (training)"),
        (["64", "128"], "256"),
        (["bf16"], "fp16"),
    ]


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def test_page_shows_every_key_in_an_example_that_loads_and_says_what_it_means() -> None:
    pin, known = map(tomllib.loads, blocks("toml"))
    project = record_of(projects.Project, known)
    assert not projects._inconsistencies(project)
    table = pin["projects"]["small-kernels"]
    record_of(ProjectPin, table)
    merged = loader._overlaid(loader.own_table("stable", ROOT / "constraints"), pin)
    assert record_of(Stack, {**merged, "name": "mine"}).build == ("small-kernels",)

    def shown(record: type, prefix: str) -> list[str]:
        inner = {"build": projects.Build, "smoke": projects.Smoke, "serve": projects.Serve}
        inner |= {"refuse": projects.Refusal}
        names = [one.name for one in fields(record)]
        return [
            word
            for name in names
            for word in (shown(inner[name], f"{name}.") if name in inner else [prefix + name])
        ]

    named: set[str] = set()
    for row in re.findall(r"^\| (`[\w.]+`.*?) \|", PAGE, re.MULTILINE):
        words = re.findall(r"`([\w.]+)`", row)
        parent = words[0].rpartition(".")[0]
        named |= {parent + word if word.startswith(".") else word for word in words}
    assert [word for word in shown(projects.Project, "") if word not in named] == []
    assert {"subfolder", "command", "distribution", "object_bytes"} <= named
    assert {"links_torch", "beside"} <= named


def test_pages_checks_are_read_as_those_of_a_project_are(tmp_path: Path) -> None:
    (text,) = blocks("python")
    ast.parse(text)
    file = tmp_path / "checks.py"
    file.write_text(text, encoding="utf-8")
    assert runner.claims_of(file, {}) == {"passes": ["fwd", "bwd"]}
    assert runner.claims_of(file, {"SMALL_PASSES": "fwd"}) == {"passes": ["fwd"]}
    for name in ("CHECKS", "NEEDS", "UNSEEN"):
        assert runner.table_of(file, name)


@pytest.mark.parametrize(
    ("name", "value"),
    [("subfolder", "python"), ("command", ("make", "{wheels}")), ("distribution", "other-name")],
)
def test_field_of_a_pin_is_in_the_key_only_where_it_is_named(name: str, value: object) -> None:
    pin = STABLE.projects["flash-attn"]
    named = replace(STABLE, projects={"flash-attn": replace(pin, **{name: value})})
    before, after = (
        key(
            Request(stack=stack, project="flash-attn", python="3.12", archs=stack.archs),
            patches=(),
            constraints=ROOT / "constraints",
            isolation="namespaces",
        )
        for stack in (STABLE, named)
    )
    assert after.changes(dict(before.parts)) == (f"{name} is new",)


def test_two_projects_cannot_make_wheels_of_one_name(tmp_path: Path) -> None:
    for path in (ROOT / "constraints").glob("*.toml"):
        shutil.copy2(path, tmp_path)
    text = 'extends = "torch211"\n[projects.vllm]\ndistribution = "flash-attn"\n'
    (tmp_path / "twice.toml").write_text(text, encoding="utf-8")
    with pytest.raises(BlackwheelError) as raised:
        loader.load("twice", tmp_path)
    assert raised.value.fact == (
        "1 fault:\nprojects.vllm.distribution: flash-attn makes wheels of that name too"
    )


def test_wheel_is_of_the_project_that_names_its_distribution() -> None:
    pin = replace(STABLE.projects["flash-attn"], distribution="other-name")
    stack = replace(STABLE, projects={**STABLE.projects, "flash-attn": pin})
    assert stack.named("other-name") == "flash-attn"
    assert stack.named("vllm") == "vllm"
    for other in ("torch", "flash-attn"):
        with pytest.raises(BlackwheelError, match="unknown-project"):
            stack.named(other)
