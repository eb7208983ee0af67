"""Self-contained HTML pages with embedded images. Does not know what the pages show."""

import base64
from html import escape
from pathlib import Path

from ristn_cli.own_files import write_text
from ristn_cli.video import Image, encode_png

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""Content security policy of every page: browsers block all network requests."""


def data_uri(image: Image) -> str:
    """Encode an RGB image (H, W, 3), uint8 or uint16, as a data URI of a lossless PNG."""
    return "data:image/png;base64," + base64.b64encode(encode_png(image)).decode("ascii")


def picture(image: Image, alt: str, *, attributes: str = "") -> str:
    """Return an `<img>` of an RGB image (H, W, 3) with alternative text, size and further HTML `attributes`."""
    height, width = image.shape[:2]
    more = f" {attributes}" if attributes else ""
    return f'<img src="{data_uri(image)}" width="{width}" height="{height}" alt="{escape(alt)}"{more}>'


def make_page(title: str, body: str, *, style: str = "", script: str = "") -> str:
    """Return an HTML document. `title` is escaped; `body`, `style` (CSS) and `script` (JavaScript) are inserted
    unchanged.
    """
    lines = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',
        f"<title>{escape(title)}</title>",
        *([f"<style>\n{style}\n</style>"] if style else []),
        "</head>",
        "<body>",
        body,
        *([f"<script>\n{script}\n</script>"] if script else []),
        "</body>",
        "</html>",
    ]
    # File names may not be valid text.
    return ("\n".join(lines) + "\n").encode("utf-8", "replace").decode("utf-8")


def write_page(path: Path, page: str, *, overwrite: bool = True) -> None:
    """Write a page, completely or not at all, and create its folder. Raises FileExistsError as `write_text` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page, overwrite=overwrite)
