"""What onnxruntime's fused kernels compute, to the last bit where they say, in one file per op family."""
