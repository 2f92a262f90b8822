"""Vectors as points of a plane, and the page that shows them.

>>> from hotrow.maps import Map, write_html
"""

from hotrow.maps.html import page_html, write_html
from hotrow.maps.map import Map

__all__ = ["Map", "page_html", "write_html"]
