"""What a build is told: settings and where each came from, targets as data."""
