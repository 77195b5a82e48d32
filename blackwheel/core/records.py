"""Reads the records that this package writes for itself: one form, within bounds, or not at all.

A form is any type that pydantic knows: a dataclass, a TypedDict, `dict[str, str]`. What the store
holds may be cut by a full disk, written by another version, or by anybody who may write there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.files import bounded

MOST_BYTES: Final = 64 << 20
"""Of one file; the largest, all symbols of a torch and its CUDA libraries, has some 30 MB."""
EXACT: Final = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
"""Of a form that nothing may be added to."""
OPEN: Final = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)
"""Of a form in which another version may say more."""
Count = Annotated[int, Field(ge=0, le=1 << 60)]
Seconds = Annotated[float, Field(ge=0, le=1e10)]
Name = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""Text of one line, which a terminal and a table of tabs can hold."""
_Form = TypeVar("_Form")


class NotARecordError(ValueError):
    """A value is not of the form; the text says why in one line."""


def parsed(data: bytes | str, form: type[_Form]) -> _Form:
    """Return the record in a JSON text; raise NotARecordError."""
    try:
        found: _Form = adapter(form).validate_json(data, strict=True)
        return found
    except ValidationError as error:
        raise NotARecordError(_first(error)) from None


def checked(value: Any, form: type[_Form]) -> _Form:
    """Return the record that a value of JSON is; raise NotARecordError."""
    try:
        found: _Form = adapter(form).validate_python(value)
        return found
    except (ValidationError, RecursionError) as error:
        raise NotARecordError(_first(error)) from None


def kept(path: Path, form: type[_Form]) -> _Form | None:
    """Return the record of something that can be made again; None for a file that holds none."""
    try:
        return parsed(bounded(path, MOST_BYTES), form)
    except (OSError, ValueError):
        return None


def read(path: Path, form: type[_Form], *, fix: str = "") -> _Form:
    """Return the record that a command needs; raise `bad-record`."""
    try:
        return parsed(bounded(path, MOST_BYTES), form)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise bad_record(path, why, fix=fix) from None


def lines(path: Path, form: type[_Form]) -> list[_Form]:
    """Return the records of a file of JSON lines; a cut or foreign line is left out."""
    try:
        content = bounded(path, MOST_BYTES)
    except (OSError, ValueError):
        return []
    found = []
    for line in content.splitlines():
        try:
            found.append(parsed(line, form))
        except NotARecordError:  # half a line: the disk was full, or the power went
            continue
    return found


def last_of(output: str, form: type[_Form]) -> _Form:
    """Return the record in the last line that a process of ours printed; raise NotARecordError.

    Code of others runs in such a process, and may print as well.
    """
    last = output.rstrip("\n").rpartition("\n")[2]
    if not last:
        raise NotARecordError("it printed nothing")
    return parsed(last, form)


def bad_record(path: Path, why: str, *, fix: str = "") -> BlackwheelError:
    """Return the error of a file of the store that is not as this package writes it."""
    return BlackwheelError(
        "bad-record",
        f"this file is not as blackwheel writes it: {why}",
        where=str(path),
        fix=fix or f"rm '{path}', then the same command again: it is made anew",
        code=Exit.MACHINE,
    )


_ADAPTERS: Final[dict[Any, TypeAdapter[Any]]] = {}
"""By form: to make one takes milliseconds."""


def adapter(form: Any) -> TypeAdapter[Any]:
    """Return the reader of a form, made once."""
    if form not in _ADAPTERS:
        _ADAPTERS[form] = TypeAdapter(form)
    return _ADAPTERS[form]


def _first(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return "it is nested without an end"
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"]))[:200]
    return f"{place}: {first['msg']}"[:400] if place else str(first["msg"])[:400]
