"""Writes docs/errors.md from the errors that the code raises: `python3 docs/make/errors.py`.

Every call of `BlackwheelError`, of its subclasses, and of functions that hand a name on to one of
them is read from the syntax tree. A call whose name cannot be read is an error of this script.
"""

from __future__ import annotations

import ast
import re
import tomllib
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

SAID: dict[str, dict[str, str]] = tomllib.loads(
    Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
)
"""`cause`, `cure` and `code` of errors of which the calls do not tell them."""


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
        said = SAID.get(name, {})
        code = said.get("code") or ", ".join(sorted({str(codes.get(one.code)) for one in places}))
        if said:
            cure = said.get("cure") or next((text for _, text in pairs if text), "")
            pairs = [(said["cause"], cure)]
        cures: dict[str, list[str]] = {}
        for cause, cure in pairs:
            cures.setdefault(cure, []).append(cause)
        if not all(cause for cause, _ in pairs) or not any(cures) or "None" in code:
            silent.append(name)
        for cure, causes in cures.items():
            made.append((name, OR.join(dict.fromkeys(causes)), cure or "the message has it", code))
    if silent:
        raise ValueError(
            f"no words for a cause, a cure or a code; say them in errors.toml: {silent}"
        )
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
