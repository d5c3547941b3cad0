"""Devices: a machine somewhere else, reached over ssh or emulated here, on which files are run and measured."""
