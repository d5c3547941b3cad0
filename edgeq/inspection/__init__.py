"""What is inside a model file, ours or anybody's: ops, types, scales, sizes, arithmetic, memory."""
