"""Proof on the finished wheel."""
