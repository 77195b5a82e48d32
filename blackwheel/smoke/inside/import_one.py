"""Imports one module after torch, and prints the outcome as JSON; runs in the smoke environment."""

import faulthandler
import importlib
import json
import sys
import time
from collections import Counter
from typing import Any


def operators(torch: Any) -> set[str]:
    """Return the names of all operators that torch knows; a toy torch knows none."""
    told = getattr(getattr(torch, "_C", None), "_dispatch_get_all_op_names", None)
    return set(told()) if told else set()


def main(module: str) -> None:
    """Import torch, then one module, and print the outcome."""
    faulthandler.enable()
    import torch

    before = operators(torch)
    began = time.monotonic()
    importlib.import_module(module)
    seconds = time.monotonic() - began
    new = Counter(operator.partition("::")[0] for operator in operators(torch) - before)
    available = torch.cuda.is_available()
    seen = {
        "module": module,
        "seconds": round(seconds, 3),
        "torch": torch.__version__,
        "git_version": torch.version.git_version,
        "cuda": torch.version.cuda,
        "operators": dict(sorted(new.items())),
        "device": torch.cuda.get_device_name() if available else "",
        "capability": ".".join(map(str, torch.cuda.get_device_capability())) if available else "",
    }
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
