"""Writers: the integer graph (or, for a baseline, the float graph) to file bytes. They decide layout, never numbers."""
