"""Holds the programs that are copied into a build: standard library only, one start an object."""
