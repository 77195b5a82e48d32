"""Waits for a share of the memory that all builds of a machine have; standard library only.

A share is a byte-range lock, as many bytes long as an object is expected to take, on the file of
each pool (docs/decisions/0019-memory-pool.md). The launcher holds one while it compiles. With a
compile cache it holds a light one, and a step that the cache does not have takes the rest beside it
(docs/decisions/0041-cache-is-asked-first.md).
"""

import os
import time

ALONE = 1 << 59
"""Bytes that no machine has: who holds a share of them is alone."""
LIGHT = 1 << 29
"""Bytes of an object that asks a cache: the preprocessor takes the most of a hit, 0.15 GB where
it reads all of torch's headers."""
SHARES, QUEUE, GATE = 1 << 60, 1 << 61, 1 << 62
"""Offsets in a pool's file: shares lie below the first, rests between it and the second, and behind
that the places in the queue of objects."""
RESTS = QUEUE + (1 << 60)
"""Where the places in the queue for rests begin."""
WAKE = 0.05
"""Seconds between two looks of the first in the queue; all others sleep in the kernel."""


class Settings:
    """Pools, cores and expectations of one build, as memory_pool.py wrote them."""

    def __init__(self, path: str, source: str) -> None:
        self.failed = path + ".failed"
        self.pools: list[tuple[str, str]] = []
        self.cores, self.settle = 1, 0.0
        self.cached = False
        self.wanted, self.seconds = 0, 0.0
        with open(path, encoding="utf-8") as file:
            for line in file:
                kind, *words = line.rstrip("\n").split("\t")
                if kind == "pool":
                    self.pools.append((words[0], words[1]))
                elif kind == "cached":
                    self.cached = True
                elif kind == "cores":
                    self.cores, self.settle = int(words[0]), float(words[1])
                elif not self.wanted and _names(words[0], source):
                    self.wanted, self.seconds = int(words[1]), float(words[2])


def _names(word: str, source: str) -> bool:
    """Tell whether a line is for this source: `*bwd` for a part of the name, else the whole."""
    return word[1:] in source if word.startswith("*") else word == source


def shares(settings: Settings, *, alone: bool) -> list[int]:
    """Wait for the object's share in each pool, innermost first; return the locked files.

    The locks belong to the open files, which the compiler inherits: the kernel frees a share when
    the last process of the object ends, however it ends. Raises TimeoutError when another object
    has failed meanwhile: ninja would wait for this one before it says so.
    """
    held = []
    wanted = min(settings.wanted, LIGHT) if settings.cached else settings.wanted
    for path, group in settings.pools:
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        last = path == settings.pools[-1][0]
        _share(file, group, settings, ALONE if alone else wanted, limit_cores=last)
        # A cache's client may leave a server behind, which would hold it for ever.
        os.set_inheritable(file, "SCCACHE_SERVER_UDS" not in os.environ)
        held.append(file)
    return held


def rest(settings: Settings) -> list[int]:
    """Wait for the rest of an object's share, which a step takes that no cache answered.

    It is no second object and counts as no core, and its holder waits for nothing but the rests of
    the next pools: nobody waits in a circle. Raises TimeoutError when another object has failed.
    """
    held = []
    wanted = settings.wanted - LIGHT
    for path, group in settings.pools if wanted > 0 else []:
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        place = _place(file, settings.seconds, RESTS)
        while not _rest(file, group, place, wanted):
            if os.path.exists(settings.failed):
                raise TimeoutError
        os.set_inheritable(file, True)  # the compiler keeps it where this process is killed
        held.append(file)
    return held


def _rest(file: int, group: str, place: int, wanted: int) -> bool:
    """Take a rest, or wait for whoever is before, or a moment; tell whether it was taken.

    Where it fits nowhere it is taken once no other object has more than a light share.
    """
    before = _locked(file, RESTS, place)
    if before:
        _lock(file, before[0], 1, shared=True)
        _unlock(file, before[0], 1)
        return False
    _lock(file, GATE, 1)
    shares, rests = _held(file, 0, SHARES), _held(file, SHARES, QUEUE)
    alone = not rests and all(end - start <= LIGHT for start, end in shares)
    fits = alone or _fits(file, group, wanted, shares + rests)
    if fits:
        _lock(file, SHARES + _gap([(a - SHARES, b - SHARES) for a, b in rests], wanted), wanted)
        _unlock(file, place, 1)
    _unlock(file, GATE, 1)
    if not fits:
        time.sleep(WAKE)
    return fits


def _share(file: int, group: str, settings: Settings, wanted: int, *, limit_cores: bool) -> None:
    place = _place(file, settings.seconds)
    time.sleep(settings.settle)
    settings.settle = 0
    while True:
        before = _locked(file, QUEUE, place)
        if before:
            # Who is behind another sleeps until that one has left; it cannot be a circle.
            _lock(file, before[0], 1, shared=True)
            _unlock(file, before[0], 1)
        else:
            _lock(file, GATE, 1)
            taken, rests = _held(file, 0, SHARES), _held(file, SHARES, QUEUE)
            crowded = limit_cores and len(taken) >= settings.cores
            # Whole shares one after another would keep a rest waiting for ever.
            crowded = crowded or (wanted > LIGHT and bool(_locked(file, RESTS, GATE)))
            free = not taken and not rests
            if free or (not crowded and _fits(file, group, wanted, taken + rests)):
                _lock(file, _gap(taken, wanted), wanted)
                _unlock(file, GATE, 1)
                _unlock(file, place, 1)
                return
            _unlock(file, GATE, 1)
            time.sleep(WAKE)
        if os.path.exists(settings.failed):
            raise TimeoutError


def _place(file: int, seconds: float, queue: int = QUEUE) -> int:
    """Take a place in the queue: an object goes before all that are shorter than it by more than
    they have waited. So the longest begin first, and nobody waits for ever.
    """
    place = queue + (int((time.monotonic() - seconds) * 1000) + (1 << 40)) * 1024
    while not _lock(file, place, 1, wait=False):
        place += 1
    return place


def _fits(file: int, group: str, wanted: int, taken: list[tuple[int, int]]) -> bool:
    """Tell whether the pool has room; the file's text is its size, as last seen.

    What holders have taken so far is between nothing and their shares, so the size is between
    `free` and `free + held`: within these bounds what was seen before holds.
    """
    held = sum(end - start for start, end in taken)
    free = free_bytes(group)
    text = os.pread(file, 32, 0).strip(b"\0 \n")
    before = int(text) if text.isdigit() else 0
    size = min(max(before, free), free + held)
    if size != before:
        os.pwrite(file, b"%-31d\n" % size, 0)
    return held + wanted <= size


def free_bytes(group: str) -> int:
    """Return the free bytes of a cgroup, or ("") of this machine; file cache counts as free."""
    if not group:
        line = text_of("/proc/meminfo").partition("MemAvailable:")[2]
        return int(line.split(None, 1)[0]) * 1024 if line else SHARES
    if os.path.exists(group + "/memory.max"):
        names, kinds = ("memory.max", "memory.current"), ("inactive_file", "active_file")
    else:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        kinds = ("total_inactive_file", "total_active_file")
    limit, used = (text_of(f"{group}/{name}").strip() for name in names)
    if not (limit.isdigit() and used.isdigit()):
        return SHARES
    lines = [line.split() for line in text_of(group + "/memory.stat").splitlines()]
    cache = sum(int(line[1]) for line in lines if line[0] in kinds)
    return int(limit) - max(0, int(used) - cache)


def _gap(taken: list[tuple[int, int]], wanted: int) -> int:
    """Return where a share of this length touches no other."""
    start = 0
    for begins, ends in sorted(taken):
        if begins - start >= wanted:
            break
        start = ends
    return start


def holders(path: "str | os.PathLike[str]") -> int:
    """Return how many objects hold a share of a pool."""
    file = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        return len(_held(file, 0, SHARES))
    finally:
        os.close(file)


def _held(file: int, start: int, end: int) -> list[tuple[int, int]]:
    """Return (start, end) of each lock that others hold in a range."""
    found = _locked(file, start, end) if start < end else None
    if not found:
        return []
    return [*_held(file, start, found[0]), found, *_held(file, found[1], end)]


def _locked(file: int, start: int, end: int) -> tuple[int, int] | None:
    """Return one exclusive lock of others that touches a range."""
    import fcntl  # noqa: PLC0415  only where there is a pool
    import struct  # noqa: PLC0415

    asked = struct.pack("hhqqii", fcntl.F_RDLCK, 0, start, end - start, 0, 0)
    told = struct.unpack("hhqqii", fcntl.fcntl(file, fcntl.F_OFD_GETLK, asked))
    return None if told[0] == fcntl.F_UNLCK else (max(start, told[2]), min(end, told[2] + told[3]))


def _lock(file: int, start: int, length: int, *, wait: bool = True, shared: bool = False) -> bool:
    import fcntl  # noqa: PLC0415  only where there is a pool
    import struct  # noqa: PLC0415

    kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
    command = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
    try:
        fcntl.fcntl(file, command, struct.pack("hhqqii", kind, 0, start, length, 0, 0))
    except BlockingIOError:
        return False
    return True


def _unlock(file: int, start: int, length: int) -> None:
    import fcntl  # noqa: PLC0415  only where there is a pool
    import struct  # noqa: PLC0415

    asked = struct.pack("hhqqii", fcntl.F_UNLCK, 0, start, length, 0, 0)
    fcntl.fcntl(file, fcntl.F_OFD_SETLK, asked)


def text_of(path: str) -> str:
    """Return the text of a kernel file; empty where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
