"""One image file as pixels of 8 bits per channel: grey with one channel, all else with three.

What would be read otherwise than it is meant is refused; what is not shown (opacity, further frames, orientation) is
counted in the notes.
"""

import re
import warnings

import numpy as np

# By content; the name may say another.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM", "WEBP", "TIFF")
# Modes of Pillow with one channel, opaque or not, and those whose colours need no profile.
GREY = ("1", "L", "LA", "La")
EXACT = (*GREY, "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr")
# Raw modes with more than 8 bits per channel: not "BGR;16", which has 16 for all three.
DEEP = re.compile(r"(?!BGR)\w+;(12|16|32|64)")
ORIENTATION = 0x0112
# The whole set is held in memory: this is for small images, many of them.
MAX_SIDE = 512


def decode(file, name, path, mode, notes):
    """(height, width, n_channels) pixels and the name of the format; `mode` "RGB" or "L" converts."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings(record=True) as told, Image.open(file, formats=FORMATS) as image:
            warnings.simplefilter("always")
            if max(image.size) > MAX_SIDE:
                raise ValueError(f"it is {image.size[0]} x {image.size[1]}, sides over {MAX_SIDE} are not read")
            _check_depth(image)
            kind = image.format
            if getattr(image, "n_frames", 1) > 1:
                notes["images with several frames, of which the first was read"] += 1
            if image.getexif().get(ORIENTATION, 1) != 1:
                notes["images whose orientation, in their EXIF data, was not applied"] += 1
            if image.mode not in EXACT:
                notes[f"images in {image.mode}, converted without a colour profile"] += 1
            pixels = np.array(_opaque(image, notes).convert(mode or ("L" if image.mode in GREY else "RGB")))
    except UnidentifiedImageError:
        raise ValueError(
            f"{path}: {name} cannot be read: it is damaged, or no image of a format that is read"
        ) from None
    except Exception as error:  # noqa: BLE001
        # A damaged image raises whatever its broken part leads to.
        raise ValueError(f"{path}: {name} cannot be read: {' '.join(str(error).split())}") from None
    for text in {" ".join(str(warning.message).split()) for warning in told}:
        notes[f"images that made Pillow warn ({text})"] += 1
    return pixels[:, :, None] if pixels.ndim == 2 else pixels, kind


def _check_depth(image):
    """Pillow would clip, or drop the lower half of, what has more than 8 bits."""
    deep = image.mode.startswith(("I", "F"))
    for decoder, _, _, arguments in image.tile:
        arguments = arguments if isinstance(arguments, tuple) else (arguments,)
        deep |= any(isinstance(each, str) and bool(DEEP.match(each)) for each in arguments)
        # The mode, and the number that stands for white.
        deep |= decoder.startswith("ppm") and arguments[-1] > 255
    if deep:
        raise ValueError(f"it has more than 8 bits per channel (mode {image.mode}), convert it to 8 bits first")


def _opaque(image, notes):
    """The image without opacity, whose colours and greys stay as they are."""
    if not image.has_transparency_data:
        return image
    # "La" and "RGBa" are multiplied by their opacity.
    image = image.convert(image.mode[:-1] + "A") if image.mode in ("La", "RGBa") else image
    whole = image.convert("RGBA")
    if whole.getchannel("A").getextrema()[0] < 255:
        notes["images whose transparency was ignored"] += 1
    # A palette whose opacity is a list would make Pillow warn.
    return whole if image.mode in ("P", "PA") else image
