"""A map: the vectors of a side as points in the plane, and the page that shows them.

>>> from hotrow.maps import Map, write_html
"""

from hotrow.maps.html import page_html, write_html
from hotrow.maps.map import Map

__all__ = ["Map", "page_html", "write_html"]
