"""What predictions are worth: CCC and its intervals, comparisons, and what is left where a modality is missing."""
