"""The model contract: everything MODEL may be, loaded safely into a network in eval mode and its `ModelSpec`."""
