"""Tables of runs: published ones and grids, trained, ranked, and left as files."""
