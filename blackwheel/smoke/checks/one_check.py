"""Runs one kernel check in the smoke environment: standard library, torch and the wheel only.

`python -I one_check.py REQUEST.json` writes its results to the file that the request names.
A crash, a hang or a CUDA error is left to runner.py, which started this.
"""

import faulthandler
import importlib
import json
import re
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

POISON_BYTES = 192 << 20
"""More than any check allocates at once: every new tensor lies in memory full of NaN."""
NOT_BUILT = "this wheel was built without"


class Failed(AssertionError):  # noqa: N818  a word, as the result has it
    """Raised by a failing check, with the name of the result and the observation."""

    def __init__(self, name: str, fact: str) -> None:
        super().__init__(fact)
        self.name = name


class Kit:
    """Tools of a check: torch, fresh random inputs, poisoned memory, comparisons, claims."""

    failed = Failed

    def __init__(self, torch: Any, *, device: str, seed: int, claims: dict[str, list[str]]) -> None:
        self.torch = torch
        self.device = device
        self.claims = claims
        self.generator = torch.Generator(device=device).manual_seed(seed)
        torch.manual_seed(seed)
        self.cases: list[dict[str, Any]] = []
        self._poisoned: list[tuple[int, int]] = []

    def random(self, *shape: int, dtype: Any) -> Any:
        """Return normal values between NaN, so that a read beyond the end shows."""
        torch, pad = self.torch, 3
        outer = (shape[0], shape[1] + pad, *shape[2:])
        around = torch.full(outer, float("nan"), device=self.device, dtype=dtype)
        made = torch.randn(shape, device=self.device, dtype=torch.float32, generator=self.generator)
        inner = around[:, : shape[1]]
        inner.copy_(made)
        return inner

    def poison(self) -> None:
        """Fill the memory of the next tensors with NaN, so that unwritten parts show."""
        if self.device == "cpu":
            return
        cuda = self.torch.cuda
        cuda.synchronize()
        cuda.empty_cache()
        # Free pieces between live tensors serve first: take each of them, largest sizes first.
        kept = []
        sizes = [3 << power for power in range(23, 18, -1)]
        for size in [*sizes, *(1 << power for power in range(20, 8, -1))]:
            before = cuda.memory_reserved()
            while cuda.memory_reserved() == before:
                kept.append(self.torch.empty(size, dtype=self.torch.uint8, device="cuda"))
        kept.append(self.torch.empty(POISON_BYTES, dtype=self.torch.uint8, device="cuda"))
        for block in kept:
            block.fill_(0xFF)
        self._poisoned = [(block.data_ptr(), block.data_ptr() + block.numel()) for block in kept]
        cuda.synchronize()

    def covered(self, tensor: Any) -> bool:
        """Tell whether a tensor lies in memory that was poisoned."""
        at = tensor.data_ptr()
        return self.device == "cpu" or any(low <= at < high for low, high in self._poisoned)

    def compare(
        self, case: str, out: Any, exact: Any, plain: Any, factor: float = 2, floor: float = 1e-5
    ) -> None:
        """Compare a result with the float64 one: at most `factor` times plain PyTorch's error.

        `plain` is the same formula in the kernel's own type. Raises `unwritten-output` where NaN
        was left, `wrong-result` beyond the bound.
        """
        torch = self.torch
        missing = int(torch.isnan(out).sum())
        if missing:
            raise Failed("unwritten-output", f"{case}: {missing} of {out.numel()} values are NaN")
        if out.shape != exact.shape:
            raise Failed("wrong-result", f"{case}: shape {out.shape} instead of {exact.shape}")
        error = float((out.double() - exact).abs().max())
        bound = factor * float((plain.double() - exact).abs().max()) + floor
        self.cases.append({"case": case, "error": error, "bound": bound})
        if not error <= bound:
            at = int((out.double() - exact).abs().argmax())
            fact = f"{case}: error {error:.3g}, at most {bound:.3g} allowed; worst at flat {at}"
            raise Failed("wrong-result", fact)

    def note(self, case: str, words: str) -> None:
        """Keep a finding that is neither right nor wrong but must be read."""
        self.cases.append({"case": case, "note": words})

    def refused(self, case: str, call: Callable[[], Any], words: str = NOT_BUILT) -> None:
        """Require that a call of an unbuilt feature is refused in words, not answered."""
        sys.stderr.write(f"case: {case}\n")  # for whoever reads why this process ended
        try:
            call()
            if self.device != "cpu":
                self.torch.cuda.synchronize()
        except (RuntimeError, ValueError, AssertionError, NotImplementedError) as error:
            text = str(error)
            if words not in text:
                first = text.splitlines()[0]
                raise Failed("unclear-refusal", f"{case}: {first}") from None
            self.cases.append({"case": case, "refused": text.splitlines()[0]})
            return
        raise Failed("no-refusal", f"{case}: the wheel answered a call that it was built without")


def load_checks(path: str) -> dict[str, Callable[[Kit], None]]:
    """Load a file of checks as a package's module, so that no file beside it hides a package."""
    package = types.ModuleType("blackwheel_checks")
    package.__path__ = [str(Path(path).parent)]
    sys.modules[package.__name__] = package
    module = importlib.import_module(f"{package.__name__}.{Path(path).stem}")
    found: dict[str, Callable[[Kit], None]] = module.CHECKS
    return found


def facts_of(torch: Any) -> dict[str, Any]:
    """Return the facts of torch and device in this process."""
    seen = {
        "torch": str(torch.__version__),
        "git_version": torch.version.git_version,
        "cuda": torch.version.cuda,
        "device": "",
        "capability": "",
        "driver": "",
    }
    if torch.cuda.is_available():
        seen["device"] = torch.cuda.get_device_name()
        seen["capability"] = ".".join(map(str, torch.cuda.get_device_capability()))
        try:
            text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
        except OSError:  # WSL2 has no such file
            text = ""
        found = re.search(r"NVRM version:.*?\s(\d{3,}\.\d+(?:\.\d+)?)\s", text)
        seen["driver"] = found[1] if found else ""
    return seen


def main(request_file: str) -> None:
    """Run the request: `checks` lists, `check` runs one."""
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    result = Path(request["result"])
    faulthandler.enable()
    # The watchdog is a thread that needs no interpreter: it ends this even inside a kernel launch.
    faulthandler.dump_traceback_later(request["start_seconds"], exit=True)
    sys.path[:0] = request.get("path", [])
    import torch

    # torch's own handler adds the native frames, which faulthandler has from Python 3.14 on only.
    torch._C._set_print_stack_traces_on_fatal_signal(True)
    if not request.get("check"):
        seen: dict[str, Any] = facts_of(torch)
        for module in request.get("modules", []):
            importlib.import_module(module)
        result.write_text(json.dumps(seen), encoding="utf-8")
        return
    check = load_checks(request["checks"])[request["check"]]
    for module in request.get("modules", []):
        importlib.import_module(module)
    device = request["device"]
    kit = Kit(torch, device=device, seed=request["seed"], claims=request["claims"])
    Path(request["maps"]).write_bytes(Path("/proc/self/maps").read_bytes())
    faulthandler.dump_traceback_later(request["seconds"], exit=True)  # in place of the first one
    began = time.monotonic()
    try:
        check(kit)
        if device != "cpu":
            torch.cuda.synchronize()
        outcome = {"name": "right", "fact": ""}
    except Failed as failure:
        outcome = {"name": failure.name, "fact": str(failure)}
    finally:  # what ends now ends slowly on a starved machine: it hangs no more
        faulthandler.dump_traceback_later(request["start_seconds"], exit=True)
    seconds = round(time.monotonic() - began, 3)
    report = {**outcome, "seconds": seconds, "cases": kit.cases}
    result.write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
