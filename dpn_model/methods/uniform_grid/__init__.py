"""Uniform grid: a regular part of every picture's grid, whatever it shows."""
