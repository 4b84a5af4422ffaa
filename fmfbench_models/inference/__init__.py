"""A trained model at work: prediction files, frames as they arrive, ONNX."""
