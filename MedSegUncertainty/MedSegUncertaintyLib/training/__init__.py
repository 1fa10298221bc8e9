"""Recipes, data and the loop that make the shipped weights."""
