"""Load everything that MODEL may be into a network in eval mode and its `ModelSpec`."""
