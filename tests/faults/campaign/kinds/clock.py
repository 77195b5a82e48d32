"""Moves the clock of a command, and the times of the files that it finds."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from .. import choices
from ..case import Case
from ..mounts import SkippedError

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long shift(void) { const char *s = getenv("CAMPAIGN_CLOCK"); return s ? atol(s) : 0; }
int clock_gettime(clockid_t id, struct timespec *to) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int code = real(id, to);
  if (!code && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) to->tv_sec += shift();
  return code;
}
time_t time(time_t *to) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (to) *to = now.tv_sec;
  return now.tv_sec;
}
int gettimeofday(struct timeval *to, void *zone) {
  struct timespec now;
  int code = clock_gettime(CLOCK_REALTIME, &now);
  to->tv_sec = now.tv_sec;
  to->tv_usec = now.tv_nsec / 1000;
  return code;
}
"""


def _shim(case: Case) -> Path:
    library = case.world.base / "clock.so"
    if not library.exists():
        if not shutil.which("gcc"):
            raise SkippedError("gcc is not here")
        source = library.with_suffix(".c")
        source.write_text(SHIM, encoding="utf-8")
        argv = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
        subprocess.run(argv, check=True)
    return library


def clock(case: Case) -> None:
    """A clock that is wrong by minutes or decades changes no byte and no verdict."""
    words = choices.any_command(case)
    shift = int(case.dice.choice([-1, 1]) * 10 ** case.dice.uniform(1.5, 9.2))
    shift = max(shift, 1 - int(time.time()))
    times = case.dice.random() < 0.5
    if times:  # of the files, as after a clock was set back or a disk was moved
        for part in ("store", "wheels", "published", "constraints", "patches"):
            for path in case.world.part(part).rglob("*"):
                if not path.is_symlink() and case.dice.random() < 0.7:
                    moment = max(0, path.stat().st_mtime + shift)
                    os.utime(path, (moment, moment))
    case.note(f"{'files' if times else 'clock'} {shift:+d} s")
    given = {} if times else {"LD_PRELOAD": str(_shim(case)), "CAMPAIGN_CLOCK": str(shift)}
    done = case.run(*words, environment=given, fresh=not times)
    if done.code:
        case.fault([f"ended with {done.code}: {done.said[-300:]}"])
    case.settle(*words)


KINDS = {"clock": clock}
