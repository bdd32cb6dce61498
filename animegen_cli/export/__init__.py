"""A trained run as files for other programs: a diffusers folder or ONNX networks, with a model card."""
