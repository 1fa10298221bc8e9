"""Views of the scene: Slicer's own displayable managers render off screen, and Qt paints the picture."""
