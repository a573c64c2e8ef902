"""The files of tokenizers, read and written piece by piece."""
