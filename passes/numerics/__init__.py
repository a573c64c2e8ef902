"""Mathematics of compression: tensors in, tensors out; nothing here knows graphs or encodings."""
