"""Gradient rules, by family of operators."""
