"""A PyTorch network to a `Graph`: torch.export, then one rule per ATen call, in one file per op family."""
