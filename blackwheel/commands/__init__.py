"""Runs the verbs that people and nox sessions type; each reads, decides nothing, and shows.

In: words of `invoke` (tasks.py) or of `python -m blackwheel` (`session`). Out: text or JSON, and
the exit code. One module a verb, or a family of verbs that show the same records.
"""
