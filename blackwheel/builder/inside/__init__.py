"""Programs that run inside a build, copied into it: standard library only, one start an object."""
