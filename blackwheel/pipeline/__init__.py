"""Takes a stack from requests to wheels on the shelf.

In: `Work`, a request with its key and the reasons to build it (`todo`). Out: exit code and shelved
wheels (`run`). `chain` takes one project through source, patches, build, audit and receipt;
`sessions` runs nox; `smoke_session` smokes what lies on the shelf; `receipt` writes what each
record saw; `patch_proof` shows what each patch changes.
"""
