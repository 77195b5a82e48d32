"""Provides the CUDA toolkit and the host compiler of a build.

In: a `ToolchainPin`. Out: `Toolchain`, a CUDA_HOME assembled from registry packages of one release
or the host's, checked (`toolkit`). `layout` makes the folder that nvcc, torch and CMake expect,
`driver_stub` the libcuda.so that nobody ships, `host_compiler` finds g++ and its version.
"""
