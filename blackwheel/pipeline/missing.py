"""Lists the parts of a project that must come before its wheel can be built."""

from __future__ import annotations

from collections.abc import Iterator

from blackwheel.core.errors import BlackwheelError
from blackwheel.core.site import Site
from blackwheel.sources.series import NoSeriesError, series_of
from blackwheel.stacks.request import Request
from blackwheel.toolchain.host_compiler import host_compiler, require_gcc


def missing(site: Site, asked: Request) -> Iterator[str]:
    """Name nested sources without a commit, a series that is not there, and a GCC that is too old.

    Asks no network; starts the compiler where the project names the oldest that it takes.
    """
    pin, stack = asked.pin, asked.stack
    for nested in pin.nested:
        if not nested.commit:
            yield f"nested source {nested.path}: nobody here has seen which commit is wanted"
    try:
        series_of(site, asked)
    except NoSeriesError as error:
        yield f"{error.fact}; {error.fix}"
    if pin.gcc:
        try:
            compiler = host_compiler(site.environment, cuda=stack.toolchain.cuda)
            require_gcc(compiler, stack, [asked.project])
        except BlackwheelError as error:
            yield f"{error.fact}; {error.fix.splitlines()[0]}"
