"""The two intermediate representations, Net and Graph, and the passes over them."""
