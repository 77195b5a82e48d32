"""Checks kernels against a reference, each check in a process of its own."""
