"""Self-contained HTML pages: pictures inside the file, and nothing that is fetched. Knows nothing of what is shown."""

import base64
from html import escape
from pathlib import Path

from ristn_cli.own_files import write_text
from ristn_cli.video import Image, encode_png

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""Content policy of every page: a browser refuses whatever would need the network."""


def data_uri(image: Image) -> str:
    """An RGB image (H, W, 3), uint8 or uint16, as a lossless PNG inside an address: `<img src>` needs no file."""
    return "data:image/png;base64," + base64.b64encode(encode_png(image)).decode("ascii")


def picture(image: Image, alt: str, *, attributes: str = "") -> str:
    """An `<img>` of an RGB image (H, W, 3) with what it shows in words, its size, and further HTML `attributes`."""
    height, width = image.shape[:2]
    more = f" {attributes}" if attributes else ""
    return f'<img src="{data_uri(image)}" width="{width}" height="{height}" alt="{escape(alt)}"{more}>'


def make_page(title: str, body: str, *, style: str = "", script: str = "") -> str:
    """A whole HTML document: `body`, `style` (CSS) and `script` (JavaScript) are taken as they are, `title` is text."""
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
    # Names of files need not be text.
    return ("\n".join(lines) + "\n").encode("utf-8", "replace").decode("utf-8")


def write_page(path: Path, page: str, *, overwrite: bool = True) -> None:
    """Write a page whole or not at all, making its folder. Raises FileExistsError as `write_text` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page, overwrite=overwrite)
