"""The frozen integers and the exact arithmetic on them. Nothing here knows of torch."""
