"""Formulations in blocks of channels, for the CPU: onnxruntime's NCHWc operators."""
