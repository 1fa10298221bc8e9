"""A result as files: segmentations, maps and numbers that other programs read."""
