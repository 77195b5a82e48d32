"""Formats seconds and bytes for people."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Format seconds: `0.4 s`, `42 s`, `8 min 11 s`, `1 h 25 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def size(count: float) -> str:
    """Format a number of bytes: `512 B`, `1.6 KiB`, `183 MiB`, `14 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1000 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.1f} {unit}" if unit != "B" and count < 9.95 else f"{round(count)} {unit}"


def counted(number: int, one: str, many: str = "") -> str:
    """Format a number of things: `1 wheel`, `2 wheels`, `2 patches`."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"
