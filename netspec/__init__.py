"""netspec: networks as text, compiled to ONNX, trained on stock onnxruntime."""

__version__ = "0.1.0"
