"""Fetches pinned sources, and applies the patches to them.

In: a `ProjectPin` and its series. Out: `SourceTree` (`fetch`: git first, else the sdist of the same
release, verified by tree id) and `PatchedTree` (`patch`: all patches or none, zero fuzz). Git:
`git_store`, `git_tags`, `git_host`, `scratch_git`; the sdist: `sdist`, `package_index`; files on
disk and their tree id: `tree`; `series` reads a series, `rebase` moves one to another release.
"""
