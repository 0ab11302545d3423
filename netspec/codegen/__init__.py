"""From layers to operators to ONNX: builder, lowering, the training step."""
