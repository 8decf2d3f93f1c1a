"""A stream over all recordings at once, larger than memory: lazily stacked, projected, searched for duplicates."""
