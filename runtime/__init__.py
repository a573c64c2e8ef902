"""The native runtime: a small C library beside compiled models, its file format and its loader."""
