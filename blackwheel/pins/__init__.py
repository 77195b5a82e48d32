"""Moves pins (torch, projects, locks), and shows each move before it is written.

In: a stack file and a version. Out: the changed stack file, its series and its locks, all or
nothing. `move_torch` and `move_project` do it; `release`, `nested`, `cmake`, `requirements` and
`upstream_files` read what an upstream pins; `stack_file` edits TOML in place; `lock` and `lock_all`
write hashed pins; `outdated` names what is newer; `objects` and `project_report` show what moves.
"""
