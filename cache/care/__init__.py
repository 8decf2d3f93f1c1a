"""What looks after a cache that outlives the runs that made it: what is in it, whether it is whole, what may go."""
