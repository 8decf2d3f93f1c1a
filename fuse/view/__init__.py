"""The local page over runs and a cache: ``data`` is what it shows, ``server`` serves it, ``static`` is the page."""
