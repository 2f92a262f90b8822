"""Ids in formats whose lines and words end at blanks: the characters that would break them, as URLs write them.

A blank or control character becomes the %XX of its UTF-8 bytes, and so does a % that two hexadecimal digits follow,
which would be taken for one. All else stays as it is. The empty id is written as a lone %, and a lone % as %25.
So `urllib.parse.unquote` gives back every id but the empty one.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

_BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f]|%(?=[0-9A-Fa-f]{2})")
_BREAK = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]|%(?=[0-9A-Fa-f]{2})")
_EMPTY = "%"


def escape(text: str, *, blanks: bool = True) -> str:
    r"""An id as a word without blanks, or with blanks=False as a field of a line, in which plain blanks may stay.

    >>> escape("WHITE METAL LANTERN"), escape("50%"), escape("50%25"), escape("")
    ('WHITE%20METAL%20LANTERN', '50%', '50%2525', '%')
    >>> escape("two words\tin a field", blanks=False)
    'two words%09in a field'
    """
    if text in {"", _EMPTY}:
        return "%25" if text else _EMPTY
    return (_BLANK if blanks else _BREAK).sub(_percent, text)


def unescape(text: str) -> str:
    """What `escape` was given.

    >>> unescape("WHITE%20METAL%20LANTERN"), unescape("50%"), unescape("%")
    ('WHITE METAL LANTERN', '50%', '')
    """
    return "" if text == _EMPTY else unquote(text)


def _percent(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode())
