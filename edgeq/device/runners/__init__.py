"""What runs on a device: edgeq's agent, and benchmark_model on Android."""
