"""The contract both stages share: what is measured, when, and how it lies on disk. numpy and zarr, never torch."""
