"""The pictures of the index: python -m lessons._thumbnails [NAME ...] writes data/NAME.png beside this file.

The first panel of a lesson's first picture, small. The files are committed, as an index must not wait for them.
"""

import base64
import importlib
import io
import re

from PIL import Image

import _enresnet
from lessons import LESSONS
from lessons._index import THUMBNAILS

__all__ = ["SIZE", "main", "thumbnail"]

PROG = "python -m lessons._thumbnails"
# Twice the height at which the index shows them.
SIZE = (480, 352)
N_COLOURS = 48
PICTURE = re.compile(r'src="data:image/png;base64,([^"]*)"')


def thumbnail(name):
    """A PNG, within SIZE, of the first panel that a lesson shows."""
    outputs, _ = importlib.import_module(f"lessons.{name}").app.run()
    texts = (getattr(output, "text", "") for output in outputs)
    data = next(match[1] for text in texts if (match := PICTURE.search(text)))
    image = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
    image.thumbnail(SIZE)
    file = io.BytesIO()
    image.quantize(N_COLOURS, kmeans=2, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


def main(argv=None):
    """Run the command line."""
    parser, known = _enresnet.OneLineParser(PROG, __doc__), [lesson.name for lesson in LESSONS]
    parser.add_argument("names", nargs="*", metavar="NAME", help="lessons (default all)")
    names = parser.parse_args(argv).names or known
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no lesson {', '.join(unknown)}; there are {', '.join(known)}")
    _enresnet.run(lambda: _write(names), PROG)


def _write(names):
    THUMBNAILS.mkdir(exist_ok=True)
    for name in names:
        path = THUMBNAILS / f"{name}.png"
        path.write_bytes(thumbnail(name))
        print(path)


if __name__ == "__main__":
    main()
