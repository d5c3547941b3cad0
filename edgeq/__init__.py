"""edgeq: a pretrained PyTorch CNN in, a proven integer model for an edge device out, no training data needed."""
