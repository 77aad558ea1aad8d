"""Property-based correctness tests and fuzzing for kernels of `min over channels of (conv2d(x, w) + b) · scale`."""
