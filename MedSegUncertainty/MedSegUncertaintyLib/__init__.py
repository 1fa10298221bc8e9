"""MedSegUncertainty: how else could this image have been segmented, and what would that change?

Importing this package loads neither torch nor MONAI nor Slicer; each room imports what it needs when it is used.
"""

__version__ = "0.1.0"
