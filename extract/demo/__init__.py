"""A corpus drawn and synthesised from a seed: real video, sound and transcripts in Aff-Wild2's folder shape."""
