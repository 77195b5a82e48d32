"""Declares verbs: each option once, with its kind and help; makes an Invoke task of each."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from invoke.context import Context
from invoke.tasks import Task

from blackwheel.core import entry
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site

GROUPS: Final = ("Start", "Build", "Look", "Share", "Maintain")
SHORT: Final = {"stack": "s", "only": "o", "jobs": "j", "python": "p", "yes": "y"}
"""The one-letter forms; each means the same for every verb that has the option."""


BETWEEN: Final = "\n"
"""Between several words at one place: a path may hold blanks and commas."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One word of a verb: `--name VALUE`, a flag, or a word at its place."""

    help: str
    default: Any = ""
    """Text; False makes a flag of it."""
    word: str = "TEXT"
    """What stands for the value in the help."""
    several: bool = False
    """Takes `a,b`, and may come again: the values add up. At a place: takes several words."""
    counts: str = ""
    """The value is a whole number of these, from one on."""
    fix: str = ""
    """What to type where it is no number."""
    place: bool = False
    """May be typed without its name; where `required`, it must be there."""
    required: bool = False
    setting: str = ""
    """The key of invoke.yaml that holds it where it is not typed."""
    to: str = ""
    """What the function calls it, where that is not the option's name."""
    old: tuple[str, ...] = ()
    """Names that it had; taken still, told nowhere."""

    def __deepcopy__(self, _: Any) -> Option:
        return self  # nothing changes it, and Invoke copies every task that it collects

    @property
    def flag(self) -> bool:
        """True for an option without a value."""
        return self.default is False


class Ask:
    """Words that were typed: `ask.given` by the names of functions, each also as `ask.name`."""

    def __init__(self, given: dict[str, Any], settings: Any) -> None:
        self.given, self.settings = given, settings

    def default_stack(self, site: Site) -> str:
        """Return the stack that counts where none was typed, and say so."""
        name = str(self.settings.stack)
        site.console.say(f"stack {name}: the default (--stack names another)")
        return name

    def __getattr__(self, name: str) -> Any:
        return self.given[name]


def verb(
    group: str, stopped: str = entry.STOPPED, **options: Option
) -> Callable[[Callable[[Site, Ask], Any]], Task[Any]]:
    """Make a task of a function that takes the site and the record of the words typed.

    `stopped` is its last line when somebody stops it.
    """

    def made(function: Callable[[Site, Ask], Any]) -> Task[Any]:
        def body(c: Context, **typed: Any) -> None:
            settings = c.config.blackwheel

            def action(site: Site) -> Any:
                ask = _ask(options, typed, settings)
                if "stack" in options and options["stack"].setting and not typed["stack"]:
                    ask.default_stack(site)
                return function(site, ask)

            sys.exit(entry.run(action, stopped=stopped))

        first = inspect.Parameter("c", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        body.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [first]
            + [
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=one.default)
                for name, one in options.items()
            ]
        )
        body.__name__, body.__doc__ = function.__name__, function.__doc__
        hints = {name.replace("_", "-"): one.help for name, one in options.items()}
        task: Task[Any] = Task(body, positional=(), auto_shortflags=False, help=hints)
        task.group, task.options = group, options  # type: ignore[attr-defined]
        return task

    return made


def _ask(
    options: Mapping[str, Option], typed: Mapping[str, Any], settings: Mapping[str, Any]
) -> Ask:
    """Return the words typed, else settings, as the kinds that functions take."""
    asked: dict[str, Any] = {}
    for name, option in options.items():
        value = typed[name]
        if option.setting and value == option.default:
            value = settings[option.setting] or option.default
        asked[option.to or name] = _value(name.replace("_", "-"), option, value)
    return Ask(asked, settings)


def _value(name: str, option: Option, value: Any) -> Any:
    if option.several and option.place:
        return tuple(filter(None, str(value).split(BETWEEN)))
    if option.several:
        return tuple(str(value).replace(",", " ").split())
    if option.counts:
        return _number(str(value), name, option) if value else 0
    return value if option.flag else str(value)


def _number(text: str, name: str, option: Option) -> int:
    if re.fullmatch(r"0*[1-9][0-9]{0,5}", text):
        return int(text)
    raise BlackwheelError(
        "bad-number",
        f"'{text}' is no number of {option.counts}",
        where=f"--{name}",
        fix=option.fix or f"--{name} {option.default or 2}",
        code=Exit.USAGE,
    )


def usage(program: str, task: Task[Any], options: Mapping[str, Option]) -> str:
    """Return the help of one verb."""
    name = task.name.replace("_", "-")
    places = [
        (option.word if option.required else f"[{option.word}]") + (" …" if option.several else "")
        for option in options.values()
        if option.place
    ]
    rows = [(spelled(key, option), option.help) for key, option in options.items()]
    rows.append(("-h, --help", "show this"))
    width = max(len(left) for left, _ in rows)
    lines = [f"usage: {' '.join([program, name, *places])} [options]", "", _first(task), ""]
    return "\n".join([*lines, *(f"  {left:{width}}  {right}" for left, right in rows)])


def spelled(key: str, option: Option) -> str:
    """Return an option as it is typed: `-s, --stack NAME`, `--yes`, or WHAT at its place."""
    if option.place:
        return option.word
    short = f"-{SHORT[key]}, " if key in SHORT else ""
    return f"{short}--{key.replace('_', '-')}" + ("" if option.flag else f" {option.word}")


def _first(task: Task[Any]) -> str:
    return str(task.__doc__ or "").strip()


def listed(program: str, tasks: Sequence[Task[Any]]) -> str:
    """Return the list of verbs by group, each with its first sentence."""
    width = max(len(task.name) for task in tasks)
    lines = [f"usage: {program} COMMAND [options]; {program} COMMAND --help tells its options"]
    for group in GROUPS:
        lines += ["", group]
        for task in tasks:
            if task.group == group:  # type: ignore[attr-defined]
                text = _first(task).partition(", e.g. ")[0].rstrip(".")
                lines.append(f"  {task.name.replace('_', '-'):{width}}  {text}")
    return "\n".join(lines)
