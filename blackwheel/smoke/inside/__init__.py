"""Holds the scripts that run in the environment of a wheel: standard library only."""
