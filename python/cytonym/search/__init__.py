"""Nearest cells of a reference: an embedding, an index over it, and what the neighbours say of a cell."""
