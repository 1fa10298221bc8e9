"""Model packages: find, verify, load, download."""
