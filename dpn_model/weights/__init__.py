"""Reading and writing checkpoints in every layout LLaVA comes in; nothing but tensors is unpickled."""
