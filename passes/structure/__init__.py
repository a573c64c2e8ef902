"""Finding and removing units of a model: heads, hidden neurons, channels, residual blocks."""
