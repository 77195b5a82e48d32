"""Reads the words behind a verb: options by name or letter, words at their place, no others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from blackwheel.commands.verbs import BETWEEN, SHORT, Option
from blackwheel.core.errors import BlackwheelError, Exit, nearest

HELP = ("--help", "-h")


def read(
    program: str, verb: str, options: Mapping[str, Option], words: Sequence[str]
) -> dict[str, Any] | None:
    """Return the values by option, or None where somebody asks for help.

    Raises `unknown-option`, `value-missing`, `no-value`, `given-twice`, `word-too-many` and
    `word-missing`.
    """
    reader = _Reader(program, verb, options)
    given = reader.read(iter(words))
    if given is not None:
        for name, option in options.items():
            if option.required and name not in given:
                raise reader.refused("word-missing", f"{verb} needs {option.word}: {option.help}")
    return given


class _Reader:
    """The words of one verb."""

    def __init__(self, program: str, verb: str, options: Mapping[str, Option]) -> None:
        self._program, self._verb, self._options = program, verb, options
        self._names = {}
        for name, option in options.items():
            for spelled in (name, *option.old):
                self._names[f"--{spelled.replace('_', '-')}"] = name
            if name in SHORT:
                self._names[f"-{SHORT[name]}"] = name
        self._given: dict[str, Any] = {}

    def read(self, words: Iterator[str]) -> dict[str, Any] | None:
        for word in words:
            if word in HELP:
                return None
            if word == "--":
                for rest in words:
                    self._placed(rest)
            elif word.startswith("-") and len(word) > 1 and " " not in word.partition("=")[0]:
                self._option(word, words)
            else:
                self._placed(word)
        return self._given

    def _option(self, word: str, words: Iterator[str]) -> None:
        key, equals, value = word.partition("=")
        if key[:2] in self._names and not key.startswith("--") and len(key) > 2:
            key, equals, value = word[:2], "=", word[2:].removeprefix("=")  # -j4
        if key not in self._names:
            long = [name for name in self._names if name.startswith("--")]
            raise self.refused("unknown-option", f"{self._verb} has no {key}{nearest(key, long)}")
        name = self._names[key]
        option = self._options[name]
        if option.flag:
            if equals:
                raise self.refused("no-value", f"{key} takes no value, and was given '{value}'")
            self._given[name] = True
            return
        if not equals:
            value = next(words, "--help")
            if value in self._names or value in HELP:
                raise self.refused("value-missing", f"{key} needs a value: {option.help}")
        self._keep(name, option, value, key)

    def _placed(self, word: str) -> None:
        for name, option in self._options.items():
            if option.place and (option.several or name not in self._given):
                self._keep(name, option, word, option.word)
                return
        raise self.refused(
            "word-too-many", f"{self._verb} has no place for '{word}'; one command at a time"
        )

    def _keep(self, name: str, option: Option, value: str, spelled: str) -> None:
        if name not in self._given:
            self._given[name] = value
        elif option.several:
            self._given[name] += f"{BETWEEN if option.place else ','}{value}"
        else:
            fact = f"{spelled} was given as '{self._given[name]}' and as '{value}'"
            raise self.refused("given-twice", fact)

    def refused(self, name: str, fact: str) -> BlackwheelError:
        """Name what was typed wrong."""
        command = f"{self._program} {self._verb}"
        fix = f"{command} --help"
        return BlackwheelError(name, fact, where=command, fix=fix, code=Exit.USAGE)
