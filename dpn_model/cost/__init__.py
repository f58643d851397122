"""What a forward pass costs: FLOPs in three conventions, and bytes of KV cache."""
