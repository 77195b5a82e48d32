"""Builds one wheel in isolation, from a patched tree.

In: `BuildPlan` (`plan`: tree, torch, toolchain, variables, jobs, key). Out: `BuiltWheel` (`build`).
`workspace` lays out the folders and the command, `reuse` decides whether earlier objects may go in,
`requirements` sets the metadata before the build, `memory_pool` shares out memory, `compile_cache`
puts the cache before nvcc's steps, `arch_plan` and `arch_diff` tell the archs of every object
without compiling. What runs inside the build, on the standard library alone, lies in `inside`.
"""
