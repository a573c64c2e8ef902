"""Rewrite rules by subject; the passes `canonicalize` and `fuse` choose among them."""
