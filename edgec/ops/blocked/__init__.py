"""Attention under a pattern, decomposed into dense products of blocks."""
