"""Changes what our own writers made: values of a tree, lines of a text, bytes, files of a zip.

Each begins with a right input and edits it a few times where its structure is, so that most inputs
get past the first check of a parser. All choices come from a `Random`: of a seed in the long form,
of Hypothesis (`st.randoms`) in the short one, which then finds the smallest choices that fail.
"""

from __future__ import annotations

import copy
import io
import json
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

DEPTH = 20_000
"""Of nested brackets: JSON of Python gives up at 1,000, a C parser where its stack ends."""
_DEEP, _LONG, _BIG = "\x01deep", "\x01long", "\x01big"
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 7, 2**31, 2**63, 2**64, -(2**63), 10**30),
    *(1.5, 1e308, float("nan"), float("inf"), -0.0),
    *("", " ", "x", "0", "-1", "null", "²", "٣", "1e5", "nan", "../../../x", "/etc/passwd", "."),
    *("a\0b", "\x1b[31m", "a\nb", "\u202e", "\ud800", "{0}", "{", "%s", "x==", "==1", "a;b", "*"),
    *("2.11.0+cu130", "12.0a", "cp312", "0" * 64, "9" * 4_000, "a" * 3_000, "é" * 300),
    *([], {}, [[]], [None], {"": ""}, [{}], {"name": None}, {"name": "a", "digest": {}}),
    *(_DEEP, _LONG, _BIG),
)
NUMBERS = (0, 1, 2, 7, 16, 0x7F, 0x80, 0xFF, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 62, (1 << 64) - 1)
WORDS = (
    *("", " ", "\t", "\0", "\x1b]0;x\a", ":", "=", "==", ";", ",", '"', "'", "\\", "\r", "\u2028"),
    *("é", "²", "٣", "../", "/", "-", "--hash=sha256:", "@", "<", "<!", "&#", "(", "[", "]", "{}"),
    *("9" * 5_000, "a" * 50_000, "(" * 5_000, "0x", "-1", "1.0", "nan", "name", "sha256="),
)
Make = Callable[[Random], bytes]


def changed_tree(dice: Random, seeds: Sequence[Any], odd: Sequence[Any] = ODD) -> Any:
    """A value as JSON and TOML know it, with one to three places changed."""
    holder = [copy.deepcopy(dice.choice(seeds))]
    for _ in range(dice.randint(1, 3)):
        _edit(dice, holder, odd)
    return holder[0]


def _edit(dice: Random, holder: list[Any], odd: Sequence[Any]) -> None:
    place: Any = holder
    key: Any = 0
    while isinstance(place[key], dict | list) and place[key] and dice.randint(0, 5):
        place = place[key]
        key = dice.choice(list(place)) if isinstance(place, dict) else dice.randrange(len(place))
    action, value = dice.randint(0, 9), place[key]
    if action <= 4:
        place[key] = copy.deepcopy(dice.choice(odd))
    elif action == 5 and place is not holder:
        del place[key]
    elif action == 6:
        place[key] = [value, copy.deepcopy(value)]
    elif action == 7:
        place[key] = {"name": value}
    elif action == 8 and isinstance(place, dict):
        place[dice.choice(WORDS)] = place.pop(key)
    elif isinstance(value, str):
        place[key] = changed_text(dice, value)
    elif isinstance(value, list):
        times = dice.choice((0, 2, 300))  # a hundred MB of one list cost seconds, and tell nothing
        place[key] = value * (times if len(as_json(value)) < 10_000 else min(times, 2))
    elif isinstance(value, int | float):
        place[key] = dice.choice(NUMBERS) * dice.choice((1, -1, 0.5))


def changed_text(dice: Random, text: str) -> str:
    place = dice.randint(0, len(text))
    end = dice.randint(place, min(len(text), place + 8))
    return text[:place] + dice.choice(WORDS) + text[end:]


_MADE = {
    _DEEP: "[" * DEPTH + "]" * DEPTH,
    _LONG: '"' + "long " * 100_000 + '"',
    _BIG: "9" * 10_000,
}


def as_json(value: Any) -> bytes:
    """JSON, with what no `json.dumps` would write."""
    text = json.dumps(value)
    for mark, made in _MADE.items():
        text = text.replace(json.dumps(mark), made)
    return text.encode()


def as_toml(value: Any) -> bytes:
    """TOML: a line a key, everything below it inline."""
    lines = [
        f"{_quoted(str(key))} = {_inline(one)}" for key, one in value.items() if one is not None
    ]
    return "\n".join([*lines, ""]).encode("utf-8", "replace")


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        pairs = [f"{_quoted(str(k))} = {_inline(v)}" for k, v in value.items() if v is not None]
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_inline(one) for one in value if one is not None) + "]"
    if isinstance(value, bool | int | float):
        return str(value).lower()
    return _MADE.get(str(value)) or _quoted(str(value))


def _quoted(text: str) -> str:
    return json.dumps(text.encode("utf-8", "replace").decode(), ensure_ascii=False).replace(
        "\x7f", "\\u007f"
    )


def json_files(seeds: Sequence[Any]) -> Make:
    def make(dice: Random) -> bytes:
        data = as_json(changed_tree(dice, seeds))
        return data if dice.randint(0, 7) else changed_bytes(dice, data)

    return make


def toml_files(seeds: Sequence[Mapping[str, Any]]) -> Make:
    def make(dice: Random) -> bytes:
        value = changed_tree(dice, seeds)
        data = as_toml(value if isinstance(value, dict) else {"value": value})
        return data if dice.randint(0, 7) else changed_bytes(dice, data)

    return make


def json_lines(seeds: Sequence[Sequence[Any]]) -> Make:
    """A file of JSON lines: values changed, lines lost, cut, or said twice."""

    def make(dice: Random) -> bytes:
        values = dice.choice(seeds)
        lines = [as_json(one) for one in values]
        for _ in range(dice.randint(1, 3)):
            number = dice.randrange(len(lines))
            if dice.randint(0, 2):
                lines[number] = as_json(changed_tree(dice, values))
            else:
                lines[number] = changed_bytes(dice, lines[number])
        return b"\n".join(lines) + b"\n" * dice.randint(0, 1)

    return make


def texts(seeds: Sequence[bytes]) -> Make:
    """A text: words put in, lines lost, moved, said often, or glued; at times bytes changed."""

    def make(dice: Random) -> bytes:
        text = dice.choice(seeds)
        for _ in range(dice.randint(1, 3)):
            text = _changed_lines(dice, text)
        return text if dice.randint(0, 7) else changed_bytes(dice, text)

    return make


def _changed_lines(dice: Random, text: bytes) -> bytes:
    lines = text.split(b"\n")
    number, action = dice.randrange(len(lines)), dice.randint(0, 8)
    line = lines[number]
    if action <= 3:
        place = dice.randint(0, len(line))
        end = dice.randint(place, min(len(line), place + 10))
        lines[number] = line[:place] + dice.choice(WORDS).encode() + line[end:]
    elif action == 4:
        del lines[number]
    elif action == 5:
        lines[number:number] = [line] * dice.choice((1, 1, 3, 3, 30, 30, 30, 400))
    elif action == 6:
        other = dice.randrange(len(lines))
        lines[number], lines[other] = lines[other], line
    elif action == 7:
        lines[number] = b" " + line
    else:
        lines[number] = line[: dice.randint(0, len(line))]
    return b"\n".join(lines)


def changed_bytes(dice: Random, data: bytes) -> bytes:
    """Some bytes flipped, lost, put in or said again; or the end cut off."""
    for _ in range(dice.randint(1, 3)):
        place, action = dice.randint(0, len(data)), dice.randint(0, 4)
        if action == 0:
            data = data[:place]
        elif action == 1:
            data = data[:place] + dice.randbytes(dice.randint(1, 8)) + data[place:]
        elif action == 2:
            new = dice.randbytes(dice.randint(1, 8))
            data = data[:place] + new + data[place + len(new) :]
        elif action == 3:
            data = data[:place] + data[place + dice.randint(1, 64) :]
        else:
            size = dice.randint(1, 4096)
            data = data[:place] + data[place : place + size] * 2 + data[place + size :]
    return data


def binaries(seeds: Sequence[bytes]) -> Make:
    """A binary file: numbers at aligned places changed, most of them near its beginning or end."""

    def make(dice: Random) -> bytes:
        data = dice.choice(seeds)
        for _ in range(dice.randint(1, 3)):
            width = dice.choice((1, 2, 4, 8))
            last = max(0, len(data) - width)
            where = dice.randint(0, 2)
            place = dice.randint(0, min(last, 512)) if where == 0 else dice.randint(0, last)
            place = dice.randint(max(0, last - 512), last) if where == 1 else place
            place -= place % min(4, width)
            number = dice.choice((*NUMBERS, len(data), len(data) - 1, place, place + 8))
            data = _with_number(data, place, width, number)
        return data if dice.randint(0, 5) else changed_bytes(dice, data)

    return make


def _with_number(data: bytes, place: int, width: int, number: int) -> bytes:
    new = (number % (1 << 8 * width)).to_bytes(width, "little")
    return data[:place] + new + data[place + width :]


def archives(seeds: Sequence[Mapping[str, bytes]], texts_in: Sequence[str] = ()) -> Make:
    """A zip archive: its files renamed, changed, doubled or lost; its directory changed.

    The files whose names end with one of `texts_in` are changed as texts, and more often.
    """

    def make(dice: Random) -> bytes:
        files = list(dice.choice(seeds).items())
        for _ in range(dice.randint(0, 2)):
            _edit_files(dice, files, tuple(texts_in))
        how = dice.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        data = zipped(files, how)
        if dice.randint(0, 2) == 0:
            headers = (data.find(b"PK\1\2"), data.rfind(b"PK\1\2"), data.rfind(b"PK\5\6"), 0)
            place = min(len(data) - 1, max(0, dice.choice(headers)) + dice.randint(0, 60))
            data = _with_number(data, place, dice.choice((1, 2, 4, 8)), dice.choice(NUMBERS))
        return data if dice.randint(0, 7) else changed_bytes(dice, data)

    return make


def _edit_files(dice: Random, files: list[tuple[str, bytes]], texts_in: tuple[str, ...]) -> None:
    chosen = [n for n, (name, _) in enumerate(files) if name.endswith(texts_in or "")]
    number = dice.choice(chosen or range(len(files)))
    name, data = files[number]
    action = dice.randint(0, 7)
    if action <= 3:
        change = texts([data]) if texts_in else binaries([data or b"\0"])
        files[number] = name, change(dice)
    elif action == 4:
        files[number] = changed_text(dice, name), data
    elif action == 5 and len(files) > 1:
        del files[number]
    elif action == 6:
        files.append((name, data))
    else:
        files.append((dice.choice(WORDS), dice.randbytes(dice.randint(0, 20))))


def zipped(files: Sequence[tuple[str, bytes]], how: int) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", how) as archive:
        warnings.simplefilter("ignore")  # of a name that comes twice
        for name, data in files:
            info = zipfile.ZipInfo("x", (2026, 1, 1, 0, 0, 0))
            info.filename = name[:30_000] or "x"
            info.compress_type = how
            info.external_attr = 0o100644 << 16
            archive.writestr(info, data)
    return out.getvalue()
