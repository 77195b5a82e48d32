"""Checks of kernels that are planted to be wrong: each fault must get its name."""

import ctypes
import os


def call(kit, function):
    library = ctypes.CDLL(os.environ["PLANTED_LIBRARY"])
    library.words.restype = ctypes.c_char_p
    kit.poison()
    out = kit.torch.empty(1000, device=kit.device)
    error = getattr(library, function)(ctypes.c_void_p(out.data_ptr()), out.numel())
    if error:
        raise RuntimeError(f"CUDA error {error}: {library.words(error).decode()}")
    exact = 2.0 * kit.torch.arange(1000, device=kit.device, dtype=kit.torch.float64)
    if not kit.covered(out):
        kit.note(function, "its output was not in poisoned memory")
    kit.compare(function, out, exact, exact)


def right(kit):
    call(kit, "right")


def unwritten(kit):
    call(kit, "unwritten")


def hang(kit):
    call(kit, "hang")


def illegal(kit):
    call(kit, "illegal")


def segfault(kit):
    call(kit, "segfault")


CHECKS = {
    "right": right,
    "unwritten": unwritten,
    "illegal": illegal,
    "segfault": segfault,
    "hang": hang,
}
