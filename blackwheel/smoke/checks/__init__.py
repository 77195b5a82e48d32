"""Kernel checks against a reference, each in a process of its own; standard library and torch."""
