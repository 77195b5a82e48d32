"""Checks a machine for building or serving, and gives the cure of each lack.

In: a stack and this machine. Out: `Check`s: can it build (`for_building`), can it run what was
built (`for_serving`), does an installed environment still hold its torch (`environment`, a script
that any Python runs), how long an index still lists a nightly (`nightly_window`).
"""
