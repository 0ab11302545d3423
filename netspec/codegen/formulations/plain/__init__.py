"""Formulations over tensors as ONNX lays them out, for every target."""
