"""Load an artifact in its real runtime, run a batch, say which kernels ran."""
