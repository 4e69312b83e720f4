"""Measures: functions of tensors or of closures, numbers out. They import nothing of params, data or models."""
