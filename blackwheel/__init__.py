"""Builds CUDA wheels for Blackwell against one pinned PyTorch, and proves it on the wheel."""

from __future__ import annotations

__version__ = "0.1.0"
