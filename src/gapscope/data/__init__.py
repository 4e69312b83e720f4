"""Data: sources -> checked arrays -> tensors on a device."""
