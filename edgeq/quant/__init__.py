"""From a float graph and a calibration set to frozen integers: scheme, ranges, correction, freeze."""
