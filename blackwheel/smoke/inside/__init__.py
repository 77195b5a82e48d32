"""Scripts that run in the environment of a wheel: standard library only."""
