"""Writes docs/errors.md from the errors that the code raises: `python3 docs/make/errors.py`.

Every call of `BlackwheelError`, of its subclasses, and of functions that hand a name on to one of
them is read from the syntax tree. A call whose name cannot be read is an error of this script.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "errors.md"
BEGIN, END = "<!-- errors -->\n", "<!-- end of errors -->\n"
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
GLUED = re.compile(r"(?<=[a-z])[A-Z][A-Z-]+\b")
"""A word of the run that continues a word of the text."""
OR = "; or "
Row = tuple[str, str, str, str]
FIELDS = ("name", "fact", "where", "fix", "code")
ORDER = {"name": 0, "fact": 1}
"""Positions of what `BlackwheelError` takes; the others are keywords."""

CONSTANTS: dict[str, str] = {}
"""Texts of the constants of the file that is read: f"{LATEST}" is `latest`."""

SAID: dict[str, tuple[str, str]] = {
    "bad-isolation": (
        "BLACKWHEEL_ISOLATION has another value than namespaces or processes, or asks for"
        " namespaces where the kernel forbids them",
        "namespaces or processes, or unset it",
    ),
    "bad-probes": (
        "probes.toml beside a series names no patch of it, or says nothing of one",
        "name patches of the series, each with `why`, and `files` or `untried`",
    ),
    "bad-project": ("the project.toml of a project has faults; all are listed", ""),
    "bad-receipt": ("a receipt is no JSON of the right shape; each fault is listed", ""),
    "bad-series": ("a series or its patches have faults; all are listed", ""),
    "bad-session-file": ("the file by which a command hands its work to nox cannot be read", ""),
    "bad-session-record": ("what a nox session noted of its work cannot be read", ""),
    "bad-stack": ("the stack file has faults; all are listed, each with its key", ""),
    "bad-version": ("a version that is none, or a nightly that names no CUDA channel", ""),
    "bad-wheel": ("a wheel file cannot be read, or its name and its content differ", ""),
    "bench-failed": ("the benchmark's process ended with an error", ""),
    "broken-receipt": ("a receipt does not fit its wheel, or its chain of digests is broken", ""),
    "build-failed": (
        "the upstream build ended with an error; the failing object's own words are shown",
        "read the log that is named; the same command again goes on with the objects it has",
    ),
    "build-stopped": (
        "the build was stopped; the objects that were compiled are kept",
        "the same command again goes on with them",
    ),
    "cannot-run-on-arch": (
        "kernels or a project were asked for that cannot run on the stack's archs",
        "the message tells the variable or the option; project.toml says why",
    ),
    "command-failed": (
        "a program that blackwheel started ended with an error; its last 40 lines are shown",
        "its own words tell; the log is named",
    ),
    "disk-too-small": (
        "less disk is free than the build needs",
        "free space (`invoke clean`), or BLACKWHEEL_HOME on another disk",
    ),
    "incomplete-set": (
        "a Python lacks a wheel of a stack that is published together or not at all",
        "build what is missing, or `--only` what is there",
    ),
    "index-away": ("an index did not answer after 4 tries", ""),
    "index-unreadable": ("an index answers with what is no page of an index: a login?", ""),
    "machine-refused": ("the operating system refused something: its words are shown", ""),
    "nothing-to-publish": (
        "no wheel of the stack's current label is on the shelf",
        "`invoke build-wheels --stack STACK`",
    ),
    "patch-changes-nothing": ("without this patch the wheel would be the same", ""),
    "patch-is-binary": ("a patch changes a file in binary form", ""),
    "patch-makes-link": ("a patch makes a symbolic link or a submodule", ""),
    "patch-outside-tree": ("a patch touches a path outside of the source tree", ""),
    "patch-unreadable": ("git cannot read a patch; its words are shown", ""),
    "plan-failed": ("the build could not be configured; its last words are shown", ""),
    "python-missing": ("this machine has no such Python, or it lacks its headers", ""),
    "stale-patch": (
        "a patch does not apply with zero fuzz; each hunk that moved or is gone is listed",
        "`invoke refresh-patches PROJECT`, or correct it by hand",
    ),
    "upload-denied": (
        "the index refused the login, or it has none",
        "UV_PUBLISH_USERNAME and UV_PUBLISH_PASSWORD, or UV_PUBLISH_TOKEN, or netrc;"
        " never in the address",
    ),
    "upload-redirected": (
        "the upload was answered with a redirect, which may be to a login",
        "name the address itself",
    ),
    "upload-refused": (
        "the index refused a wheel; its words are shown",
        "what its words tell; raise the revision if it holds other bytes under this name",
    ),
    "upload-too-large": (
        "the server, or a proxy before it, takes less than the wheel has",
        "raise its limit (nginx: `client_max_body_size 2g`), or publish to a folder",
    ),
    "wheel-refused": ("the finished wheel breaks its contract; each finding is listed", ""),
    "wrong-arch": (
        "an object is to be compiled for other archs than the stack's",
        "correct the patch or the variable that hands the archs to nvcc: patches/PROJECT/VERSION",
    ),
}
"""An empty cure: the one of the code."""
CODES = {
    "build-failed": "7",
    "build-stopped": "130",
    "wrong-arch": "7",
    "cannot-run-on-arch": "2, 3",
}
"""Exit codes that one expression chooses among."""


@dataclass
class Maker:
    """A function that hands parameters on to an error; `given` are expressions of its own."""

    positions: dict[str, int] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    given: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class Raised:
    """An error as one place of the code raises it."""

    name: str
    fact: list[str]
    fix: list[str]
    code: str


def files(root: Path) -> list[Path]:
    """Return what raises errors: the package and the tasks."""
    return [*sorted((root / "blackwheel").rglob("*.py")), root / "tasks.py"]


def called(node: ast.Call) -> str:
    """Return the last part of what is called: `refusal` of `faults.refusal(…)`."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)


def constants(trees: dict[Path, ast.Module], root: Path) -> dict[str, str]:
    """Return every constant of a module that is a text, by its dotted name."""
    found = {}
    for path, tree in trees.items():
        for node in tree.body:
            if not isinstance(node, ast.Assign | ast.AnnAssign):
                continue
            for one in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(one, ast.Name) and isinstance(node.value, ast.Constant):
                    found[f"{module(path, root)}.{one.id}"] = str(node.value.value)
    return found


def seen_from(tree: ast.Module, own: str, texts: dict[str, str]) -> dict[str, str]:
    """Return the constants that a file may use, by the last part of their names."""
    places = [own, *imported(tree).values()]
    return {
        dotted.rpartition(".")[2]: text
        for dotted, text in texts.items()
        if dotted in places or dotted.rpartition(".")[0] in places
    }


def classes(trees: dict[Path, ast.Module]) -> set[str]:
    """Return `BlackwheelError` and the names of all classes that come of it."""
    found = {"BlackwheelError"}
    nodes = [n for tree in trees.values() for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]
    while (
        more := {
            n.name for n in nodes if {ast.unparse(base).split(".")[-1] for base in n.bases} & found
        }
        - found
    ):
        found |= more
    return found


def words(  # noqa: PLR0911  one return for each kind of expression
    node: ast.expr | None, inside: ast.AST | None = None
) -> list[str]:
    """Return the texts that an expression may have; `…` stands for what only a run knows."""
    if node is None:
        return []
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) and node.value else []
    if isinstance(node, ast.JoinedStr):
        return ["".join(part(value) for value in node.values)]
    if isinstance(node, ast.IfExp):
        return [*words(node.body, inside), *words(node.orelse, inside)]
    if isinstance(node, ast.BoolOp):
        return [text for value in node.values for text in words(value, inside)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = words(node.left, inside) or ["…"], words(node.right, inside) or ["…"]
        return [one + other for one in left for other in right]
    if isinstance(node, ast.Name) and inside is not None:
        return [text for value in values_of(node.id, inside) for text in words(value)]
    if isinstance(node, ast.Call) and called(node) == "join" and node.args:
        listed = node.args[0]
        if isinstance(listed, ast.List | ast.Tuple) and listed.elts:
            return words(listed.elts[0], inside)
    return []


def part(node: ast.expr) -> str:
    """Return one piece of an f-string: its text, or the name of what stands there."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    inner = node.value if isinstance(node, ast.FormattedValue) else node
    while isinstance(inner, ast.Attribute) and inner.attr in ("name", "path", "args"):
        inner = inner.value
    text = ast.unparse(inner).split(".")[-1]
    if text in CONSTANTS:
        return CONSTANTS[text]
    plain = text.strip("_").upper().replace("_", "-")
    return plain if plain.replace("-", "").isalpha() and plain != "SELF" else "…"


def values_of(name: str, inside: ast.AST) -> Iterator[ast.expr]:
    """Yield every expression that a function assigns to a name."""
    for node in ast.walk(inside):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id == name:
                    yield node.value
                elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    for one, value in zip(target.elts, node.value.elts, strict=False):
                        if isinstance(one, ast.Name) and one.id == name:
                            yield value
        elif isinstance(node, ast.NamedExpr) and node.target.id == name:
            yield node.value


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """Yield the functions of a tree, outer ones first."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def scopes(tree: ast.Module) -> Iterator[tuple[ast.FunctionDef | None, ast.Call]]:
    """Yield each call with the innermost function that it stands in."""
    inner: dict[ast.AST, ast.FunctionDef] = {}
    for function in functions(tree):  # outer ones come first, inner ones overwrite
        for node in ast.walk(function):
            inner[node] = function
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield inner.get(node), node


def argument(node: ast.Call, maker: Maker, what: str) -> ast.expr | None:
    """Return the expression that a call gives for `name`, `fact`, `fix` or `code`."""
    key = maker.parameters.get(what, "")
    for keyword in node.keywords:
        if keyword.arg == key and key:
            return keyword.value
    at = maker.positions.get(what, -1)
    return node.args[at] if 0 <= at < len(node.args) else None


def makers(trees: dict[Path, ast.Module], root: Path) -> dict[str, Maker]:
    """Return, by dotted name, what makes an error: classes, and functions that hand a name on."""
    plain = Maker(positions=dict(ORDER), parameters={what: what for what in FIELDS})
    errors = classes(trees)
    found: dict[str, Maker] = {}
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name in errors:
                found[f"{module(path, root)}.{node.name}"] = plain
    before = -1
    while before != len(found):
        before = len(found)
        for path, tree in trees.items():
            known = imported(tree)
            for function, call in scopes(tree):
                maker = found.get(target(call, known, module(path, root)))
                if maker is None or function is None:
                    continue
                name = argument(call, maker, "name")
                if isinstance(name, ast.Name) and name.id in parameters(function):
                    own = f"{module(path, root)}.{function.name}"
                    found.setdefault(own, made(function, call, maker))
    return found


def module(path: Path, root: Path) -> str:
    """Return the dotted name of a file."""
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def imported(tree: ast.Module) -> dict[str, str]:
    """Return the dotted names that the names of a file stand for."""
    return {
        name.asname or name.name: f"{node.module}.{name.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for name in node.names
    }


def target(call: ast.Call, known: dict[str, str], own: str) -> str:
    """Return the dotted name of what is called, as far as imports tell it."""
    if isinstance(call.func, ast.Name):
        return known.get(call.func.id, f"{own}.{call.func.id}")
    if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
        holder = call.func.value.id
        return f"{own if holder == 'self' else known.get(holder, holder)}.{call.func.attr}"
    return ""


def parameters(function: ast.FunctionDef) -> list[str]:
    """Return the names of what a function takes."""
    return [each.arg for each in (*function.args.args, *function.args.kwonlyargs)]


def made(function: ast.FunctionDef, call: ast.Call, inner: Maker) -> Maker:
    """Read which parameters of a function become what of the error that it makes."""
    maker = Maker()
    plain = [one.arg for one in function.args.args if one.arg not in ("self", "cls")]
    for what in FIELDS:
        value = argument(call, inner, what)
        held = {node.id for node in ast.walk(value) if isinstance(node, ast.Name)} if value else ()
        parameter = next((one for one in plain if one in held), "")
        parameter = parameter or next(
            (one.arg for one in function.args.kwonlyargs if one.arg in held), ""
        )
        if parameter and (isinstance(value, ast.Name) or what == "fact"):
            maker.parameters[what] = parameter
            if parameter in plain:
                maker.positions[what] = plain.index(parameter)
        elif value is not None:
            maker.given[what] = [ast.unparse(value)] if what == "code" else words(value, function)
    defaults = dict(zip(reversed(plain), reversed(function.args.defaults), strict=False))
    for one, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        if default is not None:
            defaults[one.arg] = default
    for what, parameter in maker.parameters.items():
        if parameter in defaults:
            maker.given[what] = words(defaults[parameter])
    return maker


def raised(root: Path = ROOT) -> dict[str, list[Raised]]:
    """Return every error of the code by its name; raise ValueError where a name is unreadable."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in files(root)}
    errors, texts = makers(trees, root), constants(trees, root)
    found: dict[str, list[Raised]] = {}
    for path, tree in trees.items():
        known = imported(tree)
        CONSTANTS.clear()
        CONSTANTS.update(seen_from(tree, module(path, root), texts))
        for function, call in scopes(tree):
            maker = errors.get(target(call, known, module(path, root)))
            name = argument(call, maker, "name") if maker else None
            if maker is None or name is None:
                continue
            if function and isinstance(name, ast.Name) and name.id in parameters(function):
                continue  # the function is a maker itself, and its calls name the error
            inside = function or tree
            names = words(name, inside)
            if not names or not all(NAME.fullmatch(each) for each in names):
                raise ValueError(f"{path}:{call.lineno}: the name of an error is not readable")
            for each in dict.fromkeys(names):
                found.setdefault(each, []).append(one(each, call, maker, inside))
    return found


def one(name: str, call: ast.Call, maker: Maker, inside: ast.AST) -> Raised:
    """Read what one call says of its error."""

    def of(what: str) -> list[str]:
        return words(argument(call, maker, what), inside) or maker.given.get(what, [])

    code = argument(call, maker, "code")
    text = ast.unparse(code) if code is not None else (maker.given.get("code") or ["Exit.FAULT"])[0]
    return Raised(name=name, fact=of("fact"), fix=of("fix"), code=text)


def exit_codes(root: Path = ROOT) -> dict[str, int]:
    """Return the numbers of `Exit`."""
    tree = ast.parse((root / "blackwheel" / "core" / "errors.py").read_text(encoding="utf-8"))
    (kind,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Exit")
    return {
        f"Exit.{node.targets[0].id}": node.value.value
        for node in kind.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, int)
    }


def rows(found: dict[str, list[Raised]], codes: dict[str, int]) -> list[Row]:
    """Return name, cause, cure, exit code; raise ValueError where one has no words."""
    made: list[Row] = []
    silent = []
    for name, places in sorted(found.items()):
        pairs = [cause_and_cure(one) for one in places]
        code = CODES.get(name) or ", ".join(sorted({str(codes.get(one.code)) for one in places}))
        cause, cure = SAID.get(name, ("", ""))
        if cause:
            pairs = [(cause, cure or next((text for _, text in pairs if text), ""))]
        cures: dict[str, list[str]] = {}
        for cause, cure in pairs:
            cures.setdefault(cure, []).append(cause)
        if not all(cause for cause, _ in pairs) or not any(cures) or "None" in code:
            silent.append(name)
        for cure, causes in cures.items():
            made.append((name, OR.join(dict.fromkeys(causes)), cure or "the message has it", code))
    if silent:
        raise ValueError(f"no words for a cause, a cure or a code; say them in SAID: {silent}")
    return made


def cause_and_cure(one: Raised) -> tuple[str, str]:
    """Return the first line of what was seen, and the whole cure."""
    facts = [text.splitlines()[0].strip().rstrip(":") for text in one.fact]
    fixes = [" ".join(text.split()) for text in one.fix]
    cause, cure = (GLUED.sub("…", OR.join(dict.fromkeys(texts))) for texts in (facts, fixes))
    return cause, cure


def table(root: Path = ROOT) -> str:
    """Return the table of the page."""
    lines = ["| error | cause | cure | exit code |", "|---|---|---|---|"]
    for name, cause, cure, code in rows(raised(root), exit_codes(root)):
        cells = (text.replace("|", "\\|").replace("<", "&lt;") for text in (cause, cure))
        lines.append(f"| `{name}` | {' | '.join(cells)} | {code} |")
    return "\n".join(lines) + "\n"


def listed(page: Path = PAGE) -> str:
    """Return the table that the page holds."""
    return page.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    PAGE.write_text(before + BEGIN + table() + END + after, encoding="utf-8")
