import torch  # noqa: F401  its libraries are what the extension links against

from toy_torch._C import doubled

__all__ = ["doubled"]
