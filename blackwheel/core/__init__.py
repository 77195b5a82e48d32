"""Holds the ground that every package stands on; knows no stack, no project and no wheel.

In: what the machine and the caller's environment say. Out: `Site`, made once at the edge of a
command and handed on. Errors and exit codes: `errors`; starting processes: `process`; the sandbox
of a build, a program of its own: `isolation`; progress and results: `console`, `progress`; files
written whole or not at all: `files`, `file_lock`; downloads: `download`, `addresses`; what machine
this is: `machine`; the edge of a command, where errors become messages: `entry`.
"""
