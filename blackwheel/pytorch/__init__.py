"""Identifies torch by all that must not change between the build and the run of a wheel.

In: a `TorchPin`, an environment or an index page. Out: `TorchIdentity` (`identity`: version, wheel,
git commit, CUDA, C++ ABI, bytes of its `libraries`). `nightly_index`, `archive`, `wheel` and
`companions` find, keep and read nightly wheels; `installed` takes the torch of an interpreter;
`guard` reads what a wheel says of the torch it was built for.
"""
