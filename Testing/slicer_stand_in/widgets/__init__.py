"""Stand-ins for widgets of CTK and Slicer. State lives in ``self._d``, so that no name is there which Slicer lacks."""
