"""Builds CUDA wheels for Blackwell against one pinned PyTorch and proves it on the finished wheel."""

from __future__ import annotations

__version__ = "0.1.0"
