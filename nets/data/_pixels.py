"""One image file as pixels with 8 bits per channel: grey images have one channel, all others three.

Images that would be misread are refused; information that is ignored (opacity, further frames, orientation) is counted
in the notes.
"""

import re
import warnings

import numpy as np

# Formats are recognised by content, not by the file name.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM", "WEBP", "TIFF")
# Pillow's modes with one channel, opaque or not, and its modes whose colours need no profile.
GREY = ("1", "L", "LA", "La")
EXACT = (*GREY, "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr")
# Raw modes with more than 8 bits per channel: not "BGR;16", which has 16 for all three.
DEEP = re.compile(r"(?!BGR)\w+;(12|16|32|64)")
ORIENTATION = 0x0112
# The whole data set is kept in memory, which suits many small images.
MAX_SIDE = 512


def decode(file, name, path, mode, notes):
    """Return pixels (height, width, n_channels) and the name of the format; `mode` "RGB" or "L" converts."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings(record=True) as caught, Image.open(file, formats=FORMATS) as image:
            warnings.simplefilter("always")
            if max(image.size) > MAX_SIDE:
                raise ValueError(f"it is {image.size[0]} x {image.size[1]}, the limit is {MAX_SIDE} per side")
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
        raise ValueError(f"{path}: {name} cannot be read: it is damaged, or not in a supported image format") from None
    except Exception as error:  # noqa: BLE001
        # Damaged images raise errors of many types.
        raise ValueError(f"{path}: {name} cannot be read: {' '.join(str(error).split())}") from None
    for text in {" ".join(str(warning.message).split()) for warning in caught}:
        notes[f"images that made Pillow warn ({text})"] += 1
    return pixels[:, :, None] if pixels.ndim == 2 else pixels, kind


def _check_depth(image):
    """Refuse more than 8 bits per channel, which Pillow would clip or cut in half."""
    deep = image.mode.startswith(("I", "F"))
    for decoder, _, _, arguments in image.tile:
        arguments = arguments if isinstance(arguments, tuple) else (arguments,)
        deep |= any(isinstance(each, str) and bool(DEEP.match(each)) for each in arguments)
        # The last argument is the value of white.
        deep |= decoder.startswith("ppm") and arguments[-1] > 255
    if deep:
        raise ValueError(f"it has more than 8 bits per channel (mode {image.mode}), convert it to 8 bits first")


def _opaque(image, notes):
    """Return the image without opacity, with unchanged colours and greys."""
    if not image.has_transparency_data:
        return image
    # "La" and "RGBa" are multiplied by their opacity.
    image = image.convert(image.mode[:-1] + "A") if image.mode in ("La", "RGBa") else image
    whole = image.convert("RGBA")
    if whole.getchannel("A").getextrema()[0] < 255:
        notes["images whose transparency was ignored"] += 1
    # Pillow warns about palettes with a list of opacities.
    return whole if image.mode in ("P", "PA") else image
