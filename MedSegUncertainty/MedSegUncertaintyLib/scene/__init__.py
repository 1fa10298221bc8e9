"""Results as MRML nodes."""
