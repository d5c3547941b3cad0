"""The HTML pages that edgeq writes: of a build, of several builds, of timings, of a calibration set."""
