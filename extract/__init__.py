"""Stage one: frozen encoders run once over a corpus, aligned to the video's own timestamps. Never imports fuse."""
