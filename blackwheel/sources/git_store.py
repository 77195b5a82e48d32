"""Fetches the pinned commit, and its selected files, into bare git stores that all stacks share."""

# ruff: noqa: PLC0415  GitPython takes 0.1 s to import and fails without git: only a fetch pays for it.

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Final

from blackwheel.core.addresses import shown
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.file_lock import held
from blackwheel.core.site import Site
from blackwheel.sources.git_host import (
    UnreachableError,
    cure,
    disk_full,
    git_program,
    has_not,
    reason,
    run,
    said,
    store_path,
)
from blackwheel.sources.tree import GITLINK, Entry, Rows, is_selected, listed_tree_id, object_id
from blackwheel.stacks.records import GitPin

ANSWER_SECONDS: Final = 10.0
"""Look-up, connection and TLS together: a host that has not answered by then is not reachable."""
STALLED_SECONDS: Final = 60
"""A transfer without one byte for so long has lost its host."""
_ROOM: Final = 1 << 16
"""Bytes below which a disk counts as full."""
_DAMAGED: Final = re.compile(
    r"^(?:error|fatal): .*(?:reference broken|bad config|corrupt|loose object|bad object"
    r"|not a git repository: '|packfile|invalid sha1 pointer|does not point to a valid object)"
)
"""What git says of its own store, and not of the host's."""


class BrokenStoreError(BlackwheelError):
    """Raised where a git store holds other contents than its ids say."""


class GitStore:
    """The bare store of one pin's repository, opened for one project."""

    def __init__(self, site: Site, pin: GitPin, *, project: str, where: str) -> None:
        self.pin = pin
        self._project, self._where, self._console = project, where, site.console
        self._store, self.path = site.store, store_path(pin.url, site.store)
        self._rows: Rows = {}
        self._git = git_program(site.environment)(site.store)
        self._git.update_environment(
            **{
                **site.environment,
                "GIT_DIR": str(self.path),  # also where a git hook's own GIT_DIR is inherited
                "GIT_TERMINAL_PROMPT": "0",
                "LC_ALL": "C",
            }
        )

    def fetch(self) -> None:
        """Fetch the commit and its selected files unless they are here; then without network.

        All of it is hashed. A store of which a part is not what its id says is fetched anew, as a
        whole. Raises `UnreachableError`, `wrong-commit`, `wrong-tree`, `missing-folder`,
        `git-refused` and `disk-full`.
        """
        if not self.pin.commit:
            fact = f"nobody here has seen which commit of {shown(self.pin.url)} is wanted"
            fix = "name it in the stack file, where you know it"
            raise self._error("commit-unknown", fact, key="commit", fix=fix)
        name = "git-" + str(self.path.relative_to(self._store / "git")).replace("/", "-")
        with held(self._store, name, project=self._project, console=self._console):
            try:
                self._complete()
            except BrokenStoreError as error:
                fact = error.fact.replace("\n", ": ")
                self._console.say(f"{self._project}: {fact}: it is fetched anew")
                self._fetch_anew()
                self._complete()

    def _complete(self) -> None:
        """Fetch what lacks, and read all of it once."""
        if not self._has_commit():
            self._fetch_commit()
        self._verify()
        lacking = self._lacking()
        if lacking:
            self._fetch_blobs(lacking)
        for _ in self.entries():
            pass

    def _fetch_anew(self) -> None:
        """Fetch into an empty store; where the host is away, what other commits need stays."""
        self._git.clear_cache()  # its git reads the store that goes
        self._rows = {}
        aside = self.path.with_name(f".{self.path.name}.broken")
        shutil.rmtree(aside, ignore_errors=True)
        self.path.replace(aside)
        try:
            self._fetch_commit()
        except BaseException:
            shutil.rmtree(self.path, ignore_errors=True)
            aside.replace(self.path)
            raise
        shutil.rmtree(aside)

    @property
    def commit(self) -> bytes:
        """The commit object, whose hash is the pinned id."""
        return self._object("commit", self.pin.commit, "the pinned commit")

    def _object(self, kind: str, oid: str, what: str) -> bytes:
        """Read an object and hash it: git believes the name of a loose one."""
        try:
            data = bytes(self._git.get_object_data(oid)[3])
        # what GitPython makes of a missing object, and of a git that died of a damaged one
        except (ValueError, OSError) as error:
            raise self._broken(f"{what}: {error}") from None
        if object_id(kind, data).hex() != oid:
            raise self._broken(f"object {oid} holds another content than its id says: {what}")
        return data

    @property
    def tree(self) -> str:
        """Git tree id of the commit."""
        return commit_tree(self.commit)

    def entries(self, wanted: Callable[[str], bool] | None = None) -> Iterator[Entry]:
        """Read every selected file as it was committed: no filter or attribute applies."""
        for mode, oid, path in self._listed():
            if mode == GITLINK or (wanted and not wanted(path)):
                continue
            data = self._object("blob", oid, path)
            yield Entry(path=path, mode=mode, data=data)
        self._git.clear_cache()

    @property
    def links(self) -> dict[str, str]:
        """The commit of each submodule, by its path."""
        return {path: oid for path, (mode, oid) in self.rows().items() if mode == GITLINK}

    @property
    def blobs(self) -> dict[str, str]:
        """The object id of each selected file, by its path."""
        return {path: oid for mode, oid, path in self._listed() if mode != GITLINK}

    def rows(self) -> Rows:
        """Return mode and object id of all that the commit holds; git is asked once."""
        if not self._rows:
            listing = self._read("ls-tree", "-r", "-z", "--full-tree", self.pin.commit)
            for row in filter(None, listing.split(b"\0")):
                head, _, name = row.partition(b"\t")
                mode, _, oid = head.decode().split()
                self._rows[os.fsdecode(name)] = (int(mode, 8), oid)
        return self._rows

    def _listed(self) -> list[tuple[int, str, str]]:
        """Mode, object id and path of what the pin selects."""
        rows = self.rows()
        for folder in self.pin.sparse:
            if not any(path.startswith(f"{folder.rstrip('/')}/") for path in rows):
                raise self._error(
                    "missing-folder",
                    f"{shown(self.pin.url)} at {self.pin.commit[:12]} has no folder '{folder}'",
                    key="sparse",
                    fix="correct 'sparse' in the stack file",
                )
        return [(*one, path) for path, one in rows.items() if is_selected(path, self.pin.sparse)]

    def _has_commit(self) -> bool:
        if not self.path.is_dir():
            return False
        return run(self._git, "rev-parse", "--verify", "--quiet", self._ref)[0] == 0

    @property
    def _ref(self) -> str:
        """Written by git once all objects arrived; keeps them from `git gc`."""
        return f"refs/pins/{self.pin.commit}"

    def _reach(self) -> None:
        """Have a store with the pinned address, and a host that answers in time."""
        self.path.mkdir(parents=True, exist_ok=True)
        # Of a git that was killed: nobody else works here, the store is held.
        for stale in (*self.path.glob("*.lock"), *self.path.glob("objects/**/tmp_*")):
            stale.unlink()
        for args in (
            ("init", "--quiet", "--bare", "--template="),
            ("config", "remote.origin.url", self.pin.url),
        ):
            code, text = run(self._git, *args)
            if code != 0:
                raise self._broken(text) if any(self.path.iterdir()) else self._failure(text)
        code, text = run(self._git, "ls-remote", "origin", "HEAD", seconds=ANSWER_SECONDS)
        if code != 0:
            raise self._failure(text)

    def _fetch_commit(self) -> None:
        wanted = f"+{self.pin.commit}:{self._ref}"
        filters = ["--filter=blob:none"] if self.pin.sparse else []
        with self._console.stage(self._project, f"fetch {self._title}") as stage:
            self._reach()
            code, text = run(
                self._git, *_FETCH, "--depth=1", *filters, "origin", wanted, progress=stage.update
            )
        if code != 0:
            raise self._failure(text)

    def _fetch_blobs(self, oids: list[str]) -> None:
        title = f"fetch {len(oids)} files of {self._title}"
        with tempfile.TemporaryFile() as wanted, self._console.stage(self._project, title) as stage:
            self._reach()
            wanted.write("".join(f"{oid}\n" for oid in oids).encode())
            wanted.seek(0)
            code, text = run(
                self._git,
                "-c",
                "fetch.negotiationAlgorithm=noop",
                *_FETCH,
                "--no-write-fetch-head",
                "--filter=blob:none",
                "--stdin",
                "origin",
                stdin=wanted,
                progress=stage.update,
            )
        if code != 0:
            raise self._failure(text)

    def _verify(self) -> None:
        found = self.tree
        if listed_tree_id(self.rows()) != found:
            raise self._broken(f"the folders of tree {found} are not those that its id says")
        if self.pin.tree and found != self.pin.tree:
            raise self._error(
                "wrong-tree",
                f"commit {self.pin.commit} of {shown(self.pin.url)} holds another tree"
                f"\nfound:  {found}\npinned: {self.pin.tree}",
                key="tree",
                fix="correct commit and tree in the stack file: they are not of one source",
            )

    def _lacking(self) -> list[str]:
        """Return the ids of selected files whose content is not here."""
        walk = self._read("rev-list", "--objects", "--missing=print", self.pin.commit)
        missing = {line[1:].decode() for line in walk.splitlines() if line.startswith(b"?")}
        return sorted({oid for mode, oid, _ in self._listed() if mode != GITLINK} & missing)

    @property
    def _title(self) -> str:
        return f"{self.path.stem} {self.pin.commit[:12]}"

    def _read(self, *args: str) -> bytes:
        import git

        try:
            return self._git.execute(["git", *args], stdout_as_string=False)
        except git.GitCommandError as error:
            raise self._broken(str(error.stderr)) from None

    def _failure(self, text: str) -> Exception:
        """Return what a failed git command means."""
        url, why = shown(self.pin.url), reason(text)
        if why:
            return UnreachableError(shown(why), url=url, where=f"{self._where}.url")
        if any(_DAMAGED.search(line) for line in text.splitlines()):
            return self._broken("\n".join(said(text)) or text)
        if re.search("no space left|quota exceeded", text, re.IGNORECASE):
            return disk_full(self.path)
        if has_not(self.pin.commit, text):
            return self._error(
                "wrong-commit",
                f"{url} has no commit {self.pin.commit}{self._mirror()}",
                key="commit",
                fix="correct commit and tree in the stack file",
            )
        return self._error(
            "git-refused",
            "\n".join([f"{url} cannot be fetched{self._mirror()}", *said(shown(text))]),
            key="url",
            fix=cure(text),
        )

    def _mirror(self) -> str:
        """Say which address git takes instead, if its configuration names one."""
        asked = ["git", "ls-remote", "--get-url", "origin"]
        address = str(self._git.execute(asked, with_exceptions=False))
        return "" if address == self.pin.url else f" (git reads it from {shown(address)})"

    def _broken(self, text: str) -> BlackwheelError:
        if shutil.disk_usage(self.path).free < _ROOM:
            return disk_full(self.path)  # git does not always say why it could not write
        return BrokenStoreError(
            "broken-store",
            f"git cannot read what it fetched of {shown(self.pin.url)}\n{text.strip()}",
            where=str(self.path),
            fix=f"rm -r {self.path}\nand run again: it is fetched anew",
            code=Exit.SOURCE,
        )

    def _error(self, name: str, fact: str, *, key: str, fix: str) -> BlackwheelError:
        return BlackwheelError(name, fact, where=f"{self._where}.{key}", fix=fix, code=Exit.SOURCE)


def commit_tree(commit: bytes) -> str:
    """Return the tree id that a commit object names."""
    head, _, rest = commit.partition(b" ")
    return rest.partition(b"\n")[0].decode("ascii", "replace") if head == b"tree" else ""


_FETCH: Final = (
    "-c",
    "http.lowSpeedLimit=1",
    "-c",
    f"http.lowSpeedTime={STALLED_SECONDS}",
    "fetch",
    "--progress",
    "--no-tags",
    "--no-auto-gc",
    "--recurse-submodules=no",
)
