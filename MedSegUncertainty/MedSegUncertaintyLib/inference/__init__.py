"""From a volume, a package and a request to a stream of samples."""
