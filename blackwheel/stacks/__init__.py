"""Reads stack files, and resolves requests for builds of them.

In: `constraints/<stack>.toml` and the words of a command line. Out: `Stack` with its `ProjectPin`s
(`records`, read by `loader`), one `Request` per project and Python (`request`, resolved by `ask`),
and its `Key` (`key`): same key, same bytes, nothing to do. `pythons` finds the interpreter that was
asked for; `refusals` says what no stack can build.
"""
