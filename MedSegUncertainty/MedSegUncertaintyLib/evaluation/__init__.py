"""Samples against readers."""
