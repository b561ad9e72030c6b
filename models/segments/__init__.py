"""Segments: who fits a description. `grammar` reads it, `compiler` turns it into SQL, `explain` into sentences and counts."""
