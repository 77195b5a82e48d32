"""Imports one module after torch, and prints the outcome as JSON; runs in the smoke environment."""

import faulthandler
import importlib
import json
import sys
import time


def main(module: str) -> None:
    """Import torch, then one module, and print the outcome."""
    faulthandler.enable()
    import torch

    began = time.monotonic()
    importlib.import_module(module)
    seconds = time.monotonic() - began
    available = torch.cuda.is_available()
    seen = {
        "module": module,
        "seconds": round(seconds, 3),
        "torch": torch.__version__,
        "git_version": torch.version.git_version,
        "cuda": torch.version.cuda,
        "device": torch.cuda.get_device_name() if available else "",
        "capability": ".".join(map(str, torch.cuda.get_device_capability())) if available else "",
    }
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
