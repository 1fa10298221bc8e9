"""The panel: what the user sees and presses. Imports Slicer and Qt; the work is done in the rooms below."""
