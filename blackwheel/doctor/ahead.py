"""Tells which kernels a server finds compiled ahead of time, and which it compiles at run time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from blackwheel.core.units import duration
from blackwheel.doctor.check import Check
from blackwheel.receipts.beside import key_section
from blackwheel.shelf import index
from blackwheel.stacks import projects
from blackwheel.stacks.projects import Ahead, AheadSet
from blackwheel.stacks.records import ProjectPin, Stack

NAME: Final = "ahead"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pair:
    """A server of a stack, and a project whose kernels it would compile otherwise."""

    stack: Stack
    server: str
    project: str
    ahead: Ahead

    @property
    def pin(self) -> ProjectPin:
        return self.stack.projects[self.project]

    @property
    def built(self) -> bool:
        return self.project in self.stack.build

    @property
    def chosen(self) -> list[AheadSet]:
        """Sets that the stack builds."""
        words = self.words(self.pin.variables.get(self.ahead.variable, "")) if self.built else ()
        return [one for one in self.ahead.sets if one.word in words]

    @staticmethod
    def words(value: str) -> set[str]:
        """Sets that a value of the build variable names."""
        return {word.strip() for word in value.split(",")}

    @property
    def unknown(self) -> list[str]:
        """Sets that the stack names and nobody has."""
        given = self.words(self.pin.variables.get(self.ahead.variable, ""))
        return sorted(given - {one.word for one in self.ahead.sets}) if self.built else []

    @property
    def wanted(self) -> str:
        """Requirement of the server on whoever looks for the kernels; empty where there is none."""
        for line in self.stack.projects[self.server].runtime:
            named = "" if line.startswith("{") else canonicalize_name(Requirement(line).name)
            if named == self.ahead.distribution:
                return line
        return ""

    @property
    def fits(self) -> bool:
        """True if the loader of the server's release takes the kernels of this version."""
        specifier = Requirement(self.wanted).specifier if self.wanted else None
        return specifier is None or specifier.contains(self.pin.version, prereleases=True)

    @property
    def wheel(self) -> str:
        return f"{self.stack.distribution(self.project)} {self.pin.version}"


def examine(stack: Stack, patches: Path, *, shelf: Path | None, nvcc: bool) -> Iterator[Check]:
    """Check each server of a stack against each project whose kernels it looks for.

    `shelf` is the folder of the stack's wheels, where there is one to look at; `nvcc` tells that
    a compiler was found. A project that the stack has no pin of is left out.
    """
    known = projects.known(patches)
    for server in stack.build:
        serve = known[server].serve if server in known else None
        for name, one in known.items():
            if serve and one.ahead and one.ahead.title == serve.compiles and name in stack.projects:
                pair = _Pair(stack=stack, server=server, project=name, ahead=one.ahead)
                yield from _told(pair, patches, shelf, nvcc=nvcc)


def _told(pair: _Pair, patches: Path, shelf: Path | None, *, nvcc: bool) -> Iterator[Check]:
    if not pair.fits:
        if pair.built:  # else nobody counted the kernels of the version that is wanted
            yield _other_version(pair)
        return
    if pair.unknown:
        yield _no_set(pair)
        return
    if pair.built:
        yield _ready(pair, patches, shelf)
    rest = [one for one in pair.ahead.sets if one not in pair.chosen]
    if rest:
        lines = "; ".join(f"{one.what} ({one.word}): {_cost([one])}" for one in rest)
        how = (
            "are compiled by the first request that asks for it"
            if nvcc
            else f"would be compiled, and there is no nvcc: {pair.server} does without it"
        )
        yield Check(name=NAME, ok=None, fact=f"not ahead of time: {lines}; {how}")


def _other_version(pair: _Pair) -> Check:
    release = pair.stack.projects[pair.server].version
    return Check(
        name=NAME,
        ok=False,
        fact=f"the stack builds {pair.wheel}, and {pair.server} {release} asks for {pair.wanted}:"
        " the loader takes no other version's",
        cure=f"invoke pin {pair.project} VERSION --stack {pair.stack.name}, with that version;"
        f" then: nox -s lock -- {pair.stack.name}",
    )


def _no_set(pair: _Pair) -> Check:
    named = ", ".join(f"'{word}'" for word in pair.unknown)
    words = ", ".join(one.word for one in pair.ahead.sets)
    key = f"projects.{pair.project}.variables.{pair.ahead.variable}"
    return Check(
        name=NAME,
        ok=False,
        fact=f"{pair.ahead.variable} of the stack names {named}, which is none of its sets",
        cure=f"{key}: one or more of, with commas: {words}",
    )


def _ready(pair: _Pair, patches: Path, shelf: Path | None) -> Check:
    """Check that the wheel is there, and that a patch has the server look for it."""
    series = patches / pair.server / pair.stack.projects[pair.server].version
    switch = pair.ahead.switch
    patched, there, lacks = any(series.glob(switch)), _shelved(pair, shelf), []
    if not patched:
        lacks.append(f"{pair.server} {series.name} looks for it only beside an nvcc: no {switch}")
    if shelf is not None and not there:
        command = f"invoke build-wheels --stack {pair.stack.name} --only {pair.project}"
        lacks.append(f"no wheel of it is on the shelf: {command}")
    what = ", ".join(f"{one.what} ({one.word})" for one in pair.chosen)
    finds = "finds" if there or shelf is None else "would find"
    fact = f"{pair.server} {finds} {what} in {there or pair.wheel}"
    fact += " and needs no nvcc for that" if patched else ""
    fact += f": at run time it does not compile {_cost(pair.chosen)}"
    return Check(name=NAME, ok=None if lacks else True, fact=fact, cure="; ".join(lacks))


def _shelved(pair: _Pair, shelf: Path | None) -> str:
    """Return name and version of the newest wheel on the shelf that holds all chosen sets.

    Empty where there is none. What a wheel holds is in the key of its receipt: two wheels of one
    version may differ in it.
    """
    if shelf is None:
        return ""
    name = pair.stack.distribution(pair.project)
    part, chosen = f"variables.{pair.ahead.variable}", {one.word for one in pair.chosen}
    found = [
        wheel.version
        for wheel in index.shelved(shelf)
        if wheel.project == name
        and wheel.version.partition("+")[0] == pair.pin.version
        and chosen <= pair.words(key_section(wheel.receipt).get("parts", {}).get(part, ""))
    ]
    return f"{name} {found[-1]}" if found else ""


def _cost(sets: Sequence[AheadSet]) -> str:
    objects, seconds = sum(one.objects for one in sets), sum(one.seconds for one in sets)
    measured = all(one.seconds for one in sets)
    took = f"{duration(seconds)} of CPU" if measured else "unmeasured"
    return f"{objects} objects, {took}"
