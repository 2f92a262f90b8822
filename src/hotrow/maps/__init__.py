"""Vectors as points of a plane, and the page that shows them."""
