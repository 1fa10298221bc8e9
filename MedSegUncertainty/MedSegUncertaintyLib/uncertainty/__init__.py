"""From a stream of samples to maps, contours, volumes and representatives."""
