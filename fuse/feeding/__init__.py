"""What a head is fed: recordings of a cache cut into windows, gathered into batches with their labels."""
