"""Running models on onnxruntime: sessions, device state."""
