"""Takes a stack from requests to wheels on the shelf.

In: `Work`, a request with its key and the reasons to build it (`todo`). Out: exit code and shelved
wheels (`run`). `chain` takes one project through source, patches, build, audit and receipt;
`sessions` runs nox, hands it a `session_file` and reads its `session_records`; `smoke_session`
smokes wheels in their environments; `receipt` writes the sections of the records; `patch_proof`
shows what each patch changes, by plans or as its `probes` tell.
"""
