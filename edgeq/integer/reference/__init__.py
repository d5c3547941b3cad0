"""The exact integer kernels in numpy, equal to LiteRT's reference kernels, in one file per op family."""
