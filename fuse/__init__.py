"""Stage two: light fusion heads trained from the cache. May import cache, never extract."""
