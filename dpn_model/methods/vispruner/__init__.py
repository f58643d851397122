"""VisPruner: what the class token looks at, and of the rest what resembles least (ICCV 2025)."""
