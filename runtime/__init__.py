"""The native runtime and its Python loader."""
