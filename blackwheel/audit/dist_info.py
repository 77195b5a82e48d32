"""Checks the dist-info folder: name, WHEEL, entry points, and files that do not belong there."""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from email import message_from_bytes
from email.message import Message
from typing import Final

from packaging.tags import InvalidTag, Tag, parse_tag
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from blackwheel.audit.findings import Finding
from blackwheel.audit.layout import INSTALLERS, TOOLS

LIMITS: Final = {"METADATA": 4 << 20, "RECORD": 16 << 20}
OTHER_LIMIT: Final = 1 << 20
"""Bytes of a file of the dist-info folder that is held in memory."""
HELD: Final = ("METADATA", "WHEEL", "RECORD", "entry_points.txt")
MOST_TAGS: Final = 1000
MOST_ENTRY_BYTES: Final = 64 << 10
MOST_ENTRY_LINES: Final = 2000
"""Of entry_points.txt: configparser writes down each bad line again with all before it."""
KNOWN: Final = re.compile(
    r"(METADATA|WHEEL|RECORD(\.jws|\.p7s)?|entry_points\.txt|top_level\.txt|zip-safe|"
    r"namespace_packages\.txt|dependency_links\.txt|not-zip-safe|pbr\.json|metadata\.json|"
    r"(LICEN[CS]E|COPYING|NOTICE|AUTHORS|THIRD)[^/]*|(license_files|licenses|sboms)/.+)",
    re.IGNORECASE,
)
SCRIPTS: Final = ("console_scripts", "gui_scripts")
AUTOMATIC: Final = (
    "torch.backends",
    "distutils.commands",
    "setuptools.finalize_distribution_options",
)
"""Groups whose entry points are called without anybody asking for this package."""


def find_dist_info(paths: Iterable[str], name: str, version: Version) -> tuple[str, list[Finding]]:
    """Find the one dist-info folder, and tell whether it is that of the file's name."""
    tops = {path.split("/", 1)[0] for path in paths if "/" in path}
    found = sorted(top for top in tops if top.endswith(".dist-info"))
    if len(found) != 1:
        shown = ", ".join(found) or "none"
        fact = f"one dist-info folder is needed, there is {shown}"
        return (found or [""])[0], [Finding(name="bad-dist-info", fact=fact)]
    stem, _, end = found[0].removesuffix(".dist-info").rpartition("-")
    fact = f"the file is named {name} {version}"
    if canonicalize_name(stem) != name or not _same_version(end, version):
        return found[0], [Finding(name="bad-dist-info", fact=fact, library=found[0])]
    if end != str(version) or not re.fullmatch(r"[\w.]+", stem, re.ASCII):
        return found[0], [Finding(name="odd-dist-info", fact=fact, library=found[0])]
    return found[0], []


def _same_version(text: str, version: Version) -> bool:
    for spelled in (text, text.replace("_", "+", 1)):
        try:
            if Version(spelled) == version:
                return True
        except InvalidVersion:
            continue
    return False


def info_findings(
    dist_info: Mapping[str, bytes], names: Iterable[str], modules: Sequence[str] | None
) -> Iterator[Finding]:
    """Look at the files of the dist-info folder beside METADATA and RECORD."""
    for name in names:
        if name in INSTALLERS:
            fact = "an installer writes it: here it tells of no installation"
            yield Finding(name="installer-file", fact=fact, library=name)
        elif not KNOWN.fullmatch(name):
            fact = "lies in the dist-info folder and has no meaning there"
            yield Finding(name="unknown-file", fact=fact, library=name)
    if "entry_points.txt" in dist_info:
        yield from _entry_point_findings(dist_info["entry_points.txt"], modules)


def _entry_point_findings(text: bytes, modules: Sequence[str] | None) -> Iterator[Finding]:
    if len(text) > MOST_ENTRY_BYTES or text.count(b"\n") > MOST_ENTRY_LINES:
        fact = f"is longer than {MOST_ENTRY_BYTES >> 10} KiB or {MOST_ENTRY_LINES:,} lines"
        yield Finding(name="bad-entry-points", fact=fact, library="entry_points.txt")
        return
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[method-assign, assignment]
    try:
        parser.read_string(text.decode("utf-8"))
    except (configparser.Error, UnicodeDecodeError) as error:
        fact = " ".join(str(error).split())
        yield Finding(name="bad-entry-points", fact=fact, library="entry_points.txt")
        return
    for group in parser.sections():
        for name, target in parser.items(group):
            fact = _odd_entry(group, name, target, modules)
            if "\n" in target:
                fact = "lines follow that are indented: some installers take each for an entry"
            if fact:
                yield Finding(
                    name="extra-entry-point",
                    fact=f"[{group}] {name} = {target}: {fact}",
                    library="entry_points.txt",
                )


def _odd_entry(group: str, name: str, target: str, modules: Sequence[str] | None) -> str:
    script = group in SCRIPTS
    if script and (TOOLS.fullmatch(name) or "/" in name or name.startswith(".")):
        return "stands before the program of that name"
    if group in AUTOMATIC:
        return "is called without anybody asking for it"
    if modules is None:
        return ""
    if target.partition(":")[0].partition(".")[0].strip() not in modules:
        return f"calls another package than {', '.join(modules)}"
    own = name if script else group
    if not any(own.replace("_", "-").startswith(one.replace("_", "-")) for one in modules):
        return f"is not named after {', '.join(modules)}"
    return ""


def wheel_findings(
    text: bytes | None, tags: frozenset[Tag], *, libraries: bool, own: bool
) -> Iterator[Finding]:
    """Compare WHEEL with the file name's tags; `libraries` tells whether it holds any.

    Which libraries a stack's `own` wheel must hold, its contract says.
    """
    if text is None:
        yield Finding(name="bad-wheel-file", fact="the wheel holds no WHEEL")
        return
    fields = message_from_bytes(text)
    versions = fields.get_all("Wheel-Version", [])
    written = ", ".join(map(str, versions)) or "none"
    if len(versions) != 1 or not re.fullmatch(r"1\.\d+", str(versions[0]).strip()):
        yield Finding(name="bad-wheel-file", fact=f"Wheel-Version is {written}, not 1.x")
    if str(fields.get_payload()).strip():
        fact = "lines follow the blank one that ends WHEEL: some readers take them, some do not"
        yield Finding(name="loose-wheel-file", fact=fact)
    yield from _purelib_findings(fields, libraries)
    yield from _tag_findings(fields, tags)
    if not own and not libraries and all(tag.platform != "any" for tag in tags):
        fact = "its tags name a platform, and it holds no library"
        yield Finding(name="no-library", fact=fact, fatal=False)
    if libraries and any(tag.platform == "any" for tag in tags):
        yield Finding(
            name="tag-mismatch", fact="it holds libraries but says that it fits any platform"
        )


def _purelib_findings(fields: Message, libraries: bool) -> Iterator[Finding]:
    said = [str(one).strip().lower() for one in fields.get_all("Root-Is-Purelib", [])]
    if len(said) != 1 or said[0] not in ("true", "false"):
        shown = ", ".join(said) or "nothing"
        yield Finding(name="bad-wheel-file", fact=f"Root-Is-Purelib says {shown}")
    elif libraries and said[0] == "true":
        fact = "Root-Is-Purelib says that its libraries are for every machine"
        yield Finding(name="other-purelib", fact=fact)


def _tag_findings(fields: Message, tags: frozenset[Tag]) -> Iterator[Finding]:
    said: set[Tag] = set()
    for line in map(str, fields.get_all("Tag", [])):
        fault = bad_tags(line)
        if fault:
            yield Finding(name="tag-mismatch", fact=f"WHEEL: {fault}")
            return
        said |= parse_tag(line)
        if len(said) > MOST_TAGS:
            yield Finding(name="tag-mismatch", fact=f"WHEEL says more than {MOST_TAGS:,} tags")
            return
    if said != tags:
        told, named = (_shown(which) for which in (said, tags))
        yield Finding(name="tag-mismatch", fact=f"WHEEL says {told}, the file name {named}")


def bad_tags(text: str) -> str:
    """Say why a compressed set of tags is none; empty for one."""
    parts = text.strip().split("-")
    if len(parts) != 3:
        return f"'{text[:100]}' is no tag"
    count = 1
    for part in parts:
        count *= part.count(".") + 1
    if count > MOST_TAGS:
        return f"one line stands for {count:,} tags"
    try:
        parse_tag(text)
    except (InvalidTag, ValueError) as error:
        return f"'{text[:100]}' is no tag: {error}"
    return ""


def _shown(tags: Iterable[Tag]) -> str:
    names = sorted(map(str, tags))
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return (", ".join(names[:5]) or "none") + more
