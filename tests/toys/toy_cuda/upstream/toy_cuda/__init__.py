from toy_cuda._kernels import offset, scale

__all__ = ["offset", "scale"]
