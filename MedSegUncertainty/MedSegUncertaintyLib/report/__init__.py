"""A result as one HTML file that a reader without Slicer can open, print and archive."""
