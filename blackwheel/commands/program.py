"""Reads the command line: Invoke's own Program, with help, groups and errors for people.

The `blackwheel` script runs this; `invoke` becomes it as soon as tasks.py is loaded (`adopt`).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

import invoke.main
from invoke.parser import Parser
from invoke.parser.context import ParserContext
from invoke.program import Program as InvokeProgram
from invoke.tasks import Task

from blackwheel.commands import verbs, words
from blackwheel.core.console import Console
from blackwheel.core.errors import BlackwheelError, Exit, nearest

CHECKOUT: Final = Path(__file__).resolve().parents[2]


class Program(InvokeProgram):
    """Invoke's program, whose words are read by the options that a verb declares."""

    @property
    def called_as(self) -> str:
        """Name that the reader types: `invoke` or `blackwheel`."""
        name = super().called_as
        return "invoke" if name in ("__main__.py", "inv", "") else name

    def parse_tasks(self) -> None:
        """Read a verb's words, and let Invoke see the verb alone."""
        typed = self.argv[1:]
        name, *rest = self.core.unparsed or [""]
        if name and "--" in typed:
            rest = typed[typed.index(name) + 1 :]
        try:
            given = self._given(name, rest) if name else {}
        except BlackwheelError as error:
            Console(environment=os.environ).error(error)
            sys.exit(int(error.code))
        if given is None:
            self.print_task_help(name)
            sys.exit(0)
        self.core.unparsed = [name] if name else []
        super().parse_tasks()
        for option, value in given.items():
            self.tasks[0].args[option.replace("_", "-")].value = value

    def _make_parser(self) -> Parser:
        """Return a parser of the verb alone, where one was typed: Invoke copies what it knows."""
        if not self.core.unparsed:
            return super()._make_parser()
        name = self.core.unparsed[0]
        context = ParserContext(name=name, args=self.collection[name].get_arguments())
        return Parser(initial=self.initial_context, contexts=[context])

    def _given(self, name: str, rest: list[str]) -> dict[str, Any] | None:
        known = self._tasks()
        if name not in known:
            option = name.startswith("-")
            raise BlackwheelError(
                "unknown-option" if option else "unknown-command",
                f"there is no {name}"
                if option
                else f"there is no command '{name}'{nearest(name, list(known))}",
                where=self.called_as,
                fix=f"{self.called_as} --list",
                code=Exit.USAGE,
            )
        return words.read(self.called_as, name, known[name].options, rest)  # type: ignore[attr-defined]

    def _tasks(self) -> dict[str, Task[Any]]:
        return {name: self.collection[name] for name in self.collection.task_names}

    def parse_cleanup(self) -> None:
        """Complete the names of stacks and projects, which Invoke does not know."""
        if self.args.complete.value and (names := completed(self.core.remainder.split())):
            print("\n".join(names))  # noqa: T201
            sys.exit(0)
        super().parse_cleanup()

    def print_task_help(self, name: str) -> None:
        """Write the help of one verb."""
        task = self.collection[name]
        print(verbs.usage(self.called_as, task, task.options))  # noqa: T201

    def print_help(self) -> None:
        """Write the list of verbs in the place of the options that Invoke itself has."""
        if not hasattr(self, "collection"):
            self.load_collection()
        print(verbs.listed(self.called_as, list(self._tasks().values())))  # noqa: T201

    def list_tasks(self) -> None:
        """Write the verbs by group, or as Invoke writes them for programs."""
        if self.list_format == "flat":
            self.print_help()
        else:
            super().list_tasks()


def completed(typed: list[str]) -> list[str]:
    """Return the stacks or projects that may stand behind the last option."""
    option = next((word for word in reversed(typed[-2:]) if word.startswith("-")), "")
    if option in ("--stack", "-s"):
        return sorted(path.stem for path in (CHECKOUT / "constraints").glob("*.toml"))
    if option in ("--only", "-o"):
        return sorted(path.parent.name for path in (CHECKOUT / "patches").glob("*/project.toml"))
    return []


def adopt() -> None:
    """Let the `invoke` that loads tasks.py go on as this program."""
    if type(invoke.main.program) is InvokeProgram:
        invoke.main.program.__class__ = Program


def main() -> None:
    """Run `blackwheel …` on the checkout that this package is in, from any folder."""
    if not (CHECKOUT / "tasks.py").is_file():  # Invoke would name a file that nobody typed
        error = BlackwheelError(
            "no-checkout",
            "this blackwheel is a copy without its stacks, patches and shelves",
            where=str(CHECKOUT),
            fix="in the clone: python3 -m pip install -e .",
            code=Exit.MACHINE,
        )
        Console(environment=os.environ).error(error)
        sys.exit(int(error.code))
    program = Program(name="blackwheel", binary="blackwheel", binary_names=["blackwheel"])
    program.run([sys.argv[0], "--search-root", str(CHECKOUT), *sys.argv[1:]])
