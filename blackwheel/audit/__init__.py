"""Audits a finished wheel: its contents, and whether it fits its stack.

In: a wheel file, and a `Request` for one that was built here. Out: `AuditedWheel` or an
`AuditReport` (`audit`), its findings fatal or not (`findings`), its page (`page`, `receipt_page`).
Reading, from the outside in: `archive` and `member` (the zip), `wheel`, `layout`, `record`,
`dist_info` (the files and their places), `contents`, `texts`, `packed` (one file and its kind),
`elf`, `elf_dynamic`, `sections` (host code), `device`, `fatbin`, `cubin`, `cuobjdump` (device
code). Judging: `kernels` and `contract`, `loading` and `python_abi`, `symbols`, `exports` and
`glibc`, `core_metadata` and `metadata`. `environments` makes torch environments to link against;
`verdict` and `summary` say what it comes to.
"""
