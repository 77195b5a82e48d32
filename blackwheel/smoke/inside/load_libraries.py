"""Loads each library of a wheel beside torch, in forks; runs in the smoke environment.

`python -I load_libraries.py REQUEST` imports torch once and tries everything else in forks of that
process: a crash says which library it was, and nothing that one library brings helps the next.
"""

import ctypes
import faulthandler
import importlib
import importlib.machinery
import importlib.util
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

NO_DRIVER = re.compile(r"(libcuda\.so\.1|libnvidia-ml\.so\.1): cannot open shared object file")
STAND_IN = "loads, with a stand-in for libcuda.so.1"


def apart(what: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any]:
    """Call a function in a fork of this process, and return its result."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = what(*given)
        except (Exception, SystemExit) as error:  # noqa: BLE001  whatever it is, it is the answer
            answer = {"error": f"{type(error).__name__}: {error}"}
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return {"error": f"killed by signal {os.WTERMSIG(status)}"}
    return json.loads(text) if text else {"error": f"ended with code {os.WEXITSTATUS(status)}"}


def load(torch: Any, file: str, stand_in: str) -> dict[str, Any]:
    """Load one library with all its symbols, initialize it where Python could import it."""
    before = operators(torch)
    how = "loads"
    try:
        library = ctypes.CDLL(file)
    except OSError as error:
        driver = NO_DRIVER.search(str(error))
        if not driver:
            return {"error": str(error).removeprefix(f"{file}: ")}
        if driver[1] != "libcuda.so.1" or not stand_in:
            return {"load": f"not loaded: it needs {driver[1]}, which comes with a driver"}
        # Named as the driver's, so that the loader takes it where a library asks for that.
        ctypes.CDLL(stand_in)
        try:
            library = ctypes.CDLL(file)
        except OSError as again:
            return {"error": str(again).removeprefix(f"{file}: ")}
        how = STAND_IN
    name = Path(file).name.partition(".")[0]
    module = hasattr(library, f"PyInit_{name}")
    if module:
        loader = importlib.machinery.ExtensionFileLoader(name, file)
        spec = importlib.machinery.ModuleSpec(name, loader, origin=file)
        loader.exec_module(importlib.util.module_from_spec(spec))
    new = Counter(operator.partition("::")[0] for operator in operators(torch) - before)
    return {"load": how, "module": module, "operators": dict(sorted(new.items()))}


def operators(torch: Any) -> set[str]:
    """Return the names of all operators that torch knows; a toy torch knows none."""
    told = getattr(getattr(torch, "_C", None), "_dispatch_get_all_op_names", None)
    return set(told()) if told else set()


def meet_another_torch(
    torch: Any, module: str, libraries: list[str], own: list[str], older: bool
) -> dict[str, Any]:
    """Import a module beside a torch of another commit; return its error and its forerunners.

    Those are libraries that were loaded and modules that were imported to their end: where a GPU
    is, one of those may load a library that it leaves alone here. `libraries` are the paths of all
    that the wheel brings, also those outside of the module's folder, `own` its top-level names.
    Only the name of the commit is changed, and with `older` the version: that is what the guard
    must see.
    """
    torch.version.git_version = "0" * 40
    if older:
        torch.__version__ = torch.version.__version__ = "1.13.0"
    try:
        importlib.import_module(module)
    except ImportError as error:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
        files = {line.rpartition(" ")[2] for line in maps}
        return {
            "said": str(error),
            "loaded": sorted(files.intersection(libraries)),
            "imported": sorted(n for n in sys.modules if n.partition(".")[0] in own),
        }
    return {"said": "", "loaded": [], "imported": []}


def main(request: dict[str, Any]) -> None:
    """Import torch, try each part of the request, and print the outcome."""
    faulthandler.enable()
    import torch

    for file in request.get("beside", ()):
        ctypes.CDLL(file, mode=ctypes.RTLD_GLOBAL)
    packages, older = request["packages"], request.get("older", False)
    installed = [os.path.realpath(f"{packages}/{name}") for name in request["libraries"]]
    told = {
        "libraries": {
            name: apart(load, torch, f"{packages}/{name}", request["stand_in"])
            for name in request["libraries"]
        },
        "guards": {
            module: apart(meet_another_torch, torch, module, installed, request["own"], older)
            for module in request["guarded"]
        },
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
