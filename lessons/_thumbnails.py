"""The pictures of the index: python -m lessons._thumbnails [NAME ...] writes data/NAME.png beside this file.

The first panel of a lesson's first picture, small. The files are committed, as an index must not wait for them.
"""

import base64
import importlib
import io
import re
import sys

from PIL import Image

from lessons import LESSONS
from lessons._index import THUMBNAILS

__all__ = ["SIZE", "thumbnail"]

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


if __name__ == "__main__":
    THUMBNAILS.mkdir(exist_ok=True)
    for each in sys.argv[1:] or [lesson.name for lesson in LESSONS]:
        path = THUMBNAILS / f"{each}.png"
        path.write_bytes(thumbnail(each))
        print(path)
