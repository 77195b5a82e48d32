import torch  # its libraries first

from toy_night._C import devices, double

__all__ = ["devices", "double", "torch"]
