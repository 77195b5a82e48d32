"""Audits a finished wheel: its contents, and whether it fits its stack.

In: a wheel file, and a `Request` for one that was built here. Out: `AuditedWheel` or an
`AuditReport` (`audit`), its findings fatal or not (`findings`), its page (`page`, `receipt_page`).
`wheel` unpacks and distrusts; `kernels` and `fatbin` read device code; `elf`, `symbols`, `exports`
and `glibc` check what its libraries need; `metadata` checks its requirements; `environments` makes
torch environments to link against; `verdict` says what it comes to.
"""
