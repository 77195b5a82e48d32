"""Checks that end their process, as kernels of a wrong wheel do."""

import os
import time


def struct_layout(kit):
    import layout

    layout.owner_name(layout.make(dict))


def hang(kit):
    time.sleep(600)


def killed(kit):
    os.kill(os.getpid(), 9)


def no_kernel_image(kit):
    raise RuntimeError("CUDA error: no kernel image is available for execution on the device")


CHECKS = {
    "struct-layout": struct_layout,
    "hang": hang,
    "killed": killed,
    "no-kernel-image": no_kernel_image,
}
