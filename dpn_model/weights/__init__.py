"""Reading and writing checkpoints: safetensors only, nothing is unpickled."""
