"""Does the wheel import, and are its kernels right."""
