"""File formats, one folder each, behind the interface of `edgeq.formats.base`. They decide layout, never numbers."""
