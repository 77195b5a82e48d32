"""Plans a project with and without each of its patches, to prove that each patch has an effect."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from blackwheel.builder import arch_diff, arch_plan
from blackwheel.builder.arch_plan import ArchPlan
from blackwheel.builder.plan import BuildPlan
from blackwheel.builder.unplanned import CompilesError
from blackwheel.core import machine, records
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.files import replace_file
from blackwheel.core.site import Site
from blackwheel.pipeline import chain, todo
from blackwheel.pipeline import probes as probing
from blackwheel.pipeline.session_file import BuildOrder
from blackwheel.pipeline.todo import Work
from blackwheel.pytorch import installed
from blackwheel.sources import patch as patches
from blackwheel.sources.scratch_git import QUIET, Scratch
from blackwheel.sources.series import Patch
from blackwheel.sources.tree import tree_id
from blackwheel.stacks import projects
from blackwheel.toolchain import host_compiler


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """Effects of one patch."""

    patch: str
    effects: tuple[str, ...]
    """Empty: nothing, the patch is stale."""
    apart_from: tuple[str, ...]
    """Later patches that do not apply without it: left out of both plans."""
    given: tuple[str, ...] = ()
    """Empty files that were put into both trees."""
    inputs: str = ""
    """The sources whose includes were compared instead of plans."""


def plan_file(site: Site, item: Work, *, proofs: bool = False) -> Path:
    """Return the path of a request's plan in the store, by key and by planning code.

    The compiler and the way of planning change no byte of a wheel without changing its key or its
    audit, but they change a plan.
    """
    asked = item.request
    host = host_compiler.host_compiler(site.environment, cuda=asked.stack.toolchain.cuda)
    known = projects.load(site.patches, asked.project)
    made_of = f"{item.key.digest}\n{arch_plan.surroundings_digest(host, known)}".encode()
    if proofs:
        probed = site.patches / asked.project / asked.pin.version / probing.FILE
        files = (
            Path(__file__),
            Path(str(arch_diff.__file__)),
            Path(str(probing.__file__)),
            *([probed] if probed.exists() else ()),
        )
        made_of += b"".join(file.read_bytes() for file in files)
    name = hashlib.sha256(made_of).hexdigest()[:20]
    return site.store / "plans" / asked.slug / f"{name}{'.proofs' if proofs else ''}.json"


def load_plan(path: Path) -> ArchPlan:
    """Read a plan out of the store."""
    return records.read(path, ArchPlan)


def load_proofs(path: Path) -> tuple[Proof, ...]:
    """Read the proofs that `prove` wrote."""
    return records.read(path, tuple[Proof, ...])


def make_plan(site: Site, order: BuildOrder, *, environment: Path) -> None:
    """Plan a project with all of its patches; raise `plan-failed`."""
    todo.require_locks(site, order.work)
    tree = chain.tree_of(site, order)
    _full_plan(site, order.work, _build_plan(site, order.work, tree, environment))


def _full_plan(site: Site, item: Work, made: BuildPlan) -> ArchPlan:
    """Plan with all patches, or find that done."""
    path = plan_file(site, item)
    if path.exists():
        return load_plan(path)
    found = _planned(site, made)
    if found.failure:
        raise _plan_failed(item, found)
    _write(path, arch_plan.content(found))
    return found


def prove(site: Site, order: BuildOrder, *, environment: Path) -> None:
    """Write the effects of each patch: a plan without it, compared with the whole plan."""
    item = order.work
    todo.require_locks(site, item)
    read = todo.read_series(site, item)
    series, known = read.patches, probing.probes(read)
    tree = chain.tree_of(site, order)
    probing.refuse_includes(read, known, tree.root)
    made = _build_plan(site, item, tree, environment)
    full = _full_plan(site, item, made)
    folder = plan_file(site, item).parent
    for leftover in folder.glob("without-*"):  # of a run that was killed
        shutil.rmtree(leftover)
    rows = []
    for patch in series:
        probe = known.get(patch.name)
        if probe and probe.untried:
            told = f"not tried: {probe.why}"
            rows.append(Proof(patch=patch.name, effects=(told,), apart_from=()))
            continue
        site.console.say(f"{item.request.project}: without {patch.name}")
        with tempfile.TemporaryDirectory(prefix="without-", dir=folder) as scratch:
            at = Path(scratch)
            rows.append(_proof(site, made, full, series, patch=patch, probe=probe, scratch=at))
    _write(plan_file(site, item, proofs=True), [asdict(row) for row in rows])


def _proof(
    site: Site,
    made: BuildPlan,
    full: ArchPlan,
    series: Sequence[Patch],
    *,
    patch: Patch,
    probe: probing.Probe | None,
    scratch: Path,
) -> Proof:
    """Compare the tree without a patch with the whole one: their plans, or what they include."""
    given = probe.files if probe else ()
    others = [each for each in series if each is not patch]
    without = _tree_of(site, made, others, scratch / "without", given)
    applied = {each.name for each in without.patches}
    left = tuple(each.name for each in others if each.name not in applied)
    whole = made.tree
    if left or given:
        kept = [each for each in series if each.name not in left]
        whole = _tree_of(site, made, kept, scratch / "with", given)
    if probe and probe.inputs:
        found = probing.effects(probe, whole.root, without.root)
    else:
        base = _planned(site, replace(made, tree=whole)) if left or given else full
        try:
            bare = _planned(site, replace(made, tree=without))
        except CompilesError as error:  # the patch that brings ninja has this effect
            bare = arch_plan.failed(error.fact)
        found = arch_diff.effects(base, bare)
    return Proof(
        patch=patch.name,
        effects=found,
        apart_from=left,
        given=given,
        inputs=probe.inputs if probe else "",
    )


def _build_plan(site: Site, item: Work, tree: patches.PatchedTree, environment: Path) -> BuildPlan:
    jobs = machine.read_machine().cores  # an empty object needs no memory
    installed.show_torch(site, item.request.stack, item.python, environment)
    return chain.build_plan(site, item, tree, environment=environment, jobs=jobs)


def _planned(site: Site, made: BuildPlan) -> ArchPlan:
    return arch_plan.make(
        made,
        store=site.store,
        compiler=host_compiler.host_compiler(site.environment, cuda=made.toolchain.cuda_version),
        mode=made.key.part("isolation"),
        console=site.console,
    )


def _tree_of(
    site: Site, made: BuildPlan, wanted: Sequence[Patch], root: Path, given: Sequence[str]
) -> patches.PatchedTree:
    """Apply what applies of these patches to the source, at whatever line its context stands.

    Only for a trial: a build refuses a hunk that moved.
    """
    shutil.copytree(made.tree.source.root, root, symlinks=True)
    scratch = Scratch(tree=root, repository=root.parent / "git", environment=site.environment)
    scratch.make()
    applied = []
    for patch in wanted:
        file = root.parent / patch.name
        file.write_bytes(patch.content)
        if scratch.git("apply", *QUIET, str(file), check=False).code == 0:
            applied.append(patches.AppliedPatch(name=patch.name, sha256=patch.sha256))
    for name in given:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return replace(made.tree, root=root, patches=tuple(applied), tree=tree_id(root))


def _plan_failed(item: Work, found: ArchPlan) -> BlackwheelError:
    asked = item.request
    return BlackwheelError(
        "plan-failed",
        found.failure,
        where=f"{asked.project} {asked.pin.version} in stack {asked.stack.name}",
        fix="correct the patch, the pin or the variable that its words name",
        code=Exit.BUILD,
    )


def _write(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(document, indent=1).encode())
