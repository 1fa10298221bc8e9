"""Inference in a process of its own, so that neither its work nor its death touches the application."""
