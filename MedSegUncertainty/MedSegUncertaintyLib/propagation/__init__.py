"""Segmentation by example: a structure outlined in a few slices, found in all others."""
