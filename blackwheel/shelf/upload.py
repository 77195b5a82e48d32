"""Uploads one wheel through `uv publish`: within a time limit, and never twice."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Final

from blackwheel.core import process
from blackwheel.core.addresses import shown
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.http import AGAIN
from blackwheel.core.redact import masked
from blackwheel.core.site import Site
from blackwheel.core.units import size
from blackwheel.shelf import remote_index
from blackwheel.shelf.gate import Proved
from blackwheel.shelf.remote_index import Index, Limits

_STATUS: Final = re.compile(r"status code (\d{3})")
_DENIED: Final = (401, 403)
_LONGEST_PAUSE: Final = 60.0


def state(one: Proved, index: Index, limits: Limits) -> str:
    """Return `there` or `absent`; raise `other-bytes` where the name holds other bytes."""
    found = remote_index.listed(index, one.wheel.project, one.wheel.path.name, limits)
    if found is None:
        return "absent"
    digest = found.digests.get("sha256") or remote_index.sha256(index, found)[0]
    if digest != one.wheel.sha256:
        raise other_bytes(one, digest, shown(index.simple))
    return "there"


def upload(one: Proved, index: Index, *, site: Site, limits: Limits, deadline: float) -> None:
    """Send a wheel; return when the server accepts it, which proves nothing yet.

    The index is read before each try: the one before may have succeeded although it seemed to fail.
    """
    name, why = one.wheel.path.name, ""
    with site.console.stage(one.wheel.project, f"upload {name} ({size(one.wheel.size)})") as stage:
        for number in range(limits.tries):
            if number:
                site.console.say(f"{one.wheel.project}: {why}; try {number + 1} of {limits.tries}")
                limits.pause(min(2.0**number, _LONGEST_PAUSE, _left(deadline)))
                if state(one, index, limits) == "there":
                    stage.conclude("already on the index: the earlier attempt had succeeded")
                    return
            if not _left(deadline):
                raise remote_index.away(
                    index, f"{name}: {why or 'not tried'}, and the time of this run is over"
                )
            why = _attempt(one, index, site=site, seconds=_left(deadline))
            if not why:
                return
        raise remote_index.away(index, f"{name}: {why} ({limits.tries} tries)")


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _attempt(one: Proved, index: Index, *, site: Site, seconds: float) -> str:
    """Run `uv publish` once; return why another try may help, nothing after a success."""
    argv = [str(site.uv), "publish", "--publish-url", index.upload, "--check-url", index.simple]
    argv += ["--trusted-publishing", "never", "--no-progress", "--no-cache", str(one.wheel.path)]
    # The tries are counted here: uv would make four of each, without reading the index between.
    environment = {**site.environment, "UV_HTTP_RETRIES": "0", "NO_COLOR": "1"}
    environment["UV_UPLOAD_HTTP_TIMEOUT"] = str(max(1, int(seconds)))
    done = process.capture_within(seconds + 1, argv, environment=environment, cwd=Path("/"))
    if done.hung:
        return "no answer in time"
    if done.code == 0:
        return ""
    said = _said(done.stderr, index)
    found = _STATUS.search(said)
    status = int(found[1]) if found else 0
    if status in AGAIN:
        return f"the server answers {status}"
    transport = not status and ("Failed to send POST" in said or "query check URL" in said)
    if transport and "credentials" not in said and "redirected" not in said:
        return "no answer in time" if "timed out" in said else "the connection broke"
    raise _refused(one, index, status, said)


def _said(stderr: str, index: Index) -> str:
    """What uv says of the failure, and the server's words in it, without the login."""
    lines = masked(stderr, index.secrets).splitlines()
    causes = [line.strip() for line in lines if line.strip()]
    first = next((n for n, line in enumerate(causes) if line.startswith("error: ")), 0)
    return "\n".join(causes[first:][:12])


def _refused(one: Proved, index: Index, status: int, said: str) -> BlackwheelError:
    """The error of an upload that no other try will mend."""
    name, fix = one.wheel.path.name, "the server's own words tell what it wants"
    fact = f"{name}\n{said}"
    if status == 413:
        what = "upload-too-large"
        fact = f"{name} has {size(one.wheel.size)}; the server, or a proxy before it, takes less"
        fix = (
            "raise the limit of the proxy (nginx: client_max_body_size 2g) and of the server;\n"
            "or publish to a folder that a web server serves: --to FOLDER"
        )
    elif status in _DENIED or "credentials" in said:
        what = "upload-denied"
        fix = (
            "UV_PUBLISH_USERNAME and UV_PUBLISH_PASSWORD, or UV_PUBLISH_TOKEN, or netrc, or a\n"
            "keyring with UV_KEYRING_PROVIDER=subprocess; never in the address"
        )
    elif "redirected" in said:
        what = "upload-redirected"
        fix = "name the address itself: uploads do not follow a redirect, which may be to a login"
    elif "do not match" in said or status == 409:
        what = "upload-refused"
        fix = f"{raise_revision(one)}, if the index holds other bytes under this name"
    else:
        what = "upload-refused"
    return BlackwheelError(what, fact, where=shown(index.upload), fix=fix, code=Exit.INDEX)


def raise_revision(one: Proved) -> str:
    """Return the fix for a file name that is taken: raise the revision."""
    asked = one.request
    return (
        f"raise projects.{asked.project}.revision in constraints/{asked.stack.name}.toml "
        "and build again"
    )


def other_bytes(one: Proved, found: str, where: str) -> BlackwheelError:
    """Return the error of a name that holds other bytes."""
    return BlackwheelError(
        "other-bytes",
        f"{one.wheel.path.name} is on the index with other bytes\n"
        f"there: sha256 {found}\n"
        f"new:   sha256 {one.wheel.sha256}",
        where=where,
        fix=raise_revision(one),
        code=Exit.INDEX,
    )
