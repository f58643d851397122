"""HoloV: every stretch of the picture gets a quota, and keeps what the class token looks at (NeurIPS 2025)."""
