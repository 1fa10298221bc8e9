"""Grids, files and intensities: from the user's volume to the model's grid and back."""
