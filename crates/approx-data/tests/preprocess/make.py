"""Writes pictures of the kinds that ImageNet has, and what Pillow and torchvision make of them:
`NAME_EXT.RESIZE-CROP.png` is CenterCrop(CROP)(Resize(RESIZE)(Image.open(NAME.EXT).convert("RGB"))).

Needs Pillow (made with 13.0 and libjpeg-turbo 3.2) and torchvision (0.29). `*.crop224.png`, for 256 and 224, and
the pictures that they are made of were there before.
"""

import io
import struct
import warnings
import zlib
from pathlib import Path

from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Resize

warnings.simplefilter("ignore")
here = Path(__file__).parent
hopper = Image.open(here / "hopper.png").convert("RGB")


def small(width, height):
    """A part of hopper with an odd size."""
    return hopper.resize((width, height), Image.Resampling.LANCZOS, box=(60, 40, 460, 560))


def golden(name, *sizes):
    path = here / name
    for resize, crop in sizes:
        image = Compose([Resize(resize), CenterCrop(crop)])(Image.open(path).convert("RGB"))
        target = here / f"{path.stem}_{path.suffix[1:]}.{resize}-{crop}.png"
        image.save(target, optimize=True)


def write(name, image, *sizes, **options):
    image.save(here / name, **options)
    golden(name, *(sizes or [(64, 56)]))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(name, size, bits, colour, rows, *extra):
    """A PNG file of a kind that Pillow does not write."""
    head = struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0)
    body = b"".join(b"\0" + row for row in rows)
    chunks = [chunk(b"IHDR", head), *extra, chunk(b"IDAT", zlib.compress(body, 9)), chunk(b"IEND", b"")]
    (here / name).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    golden(name, (64, 56))


# JPEG: subsampling, progressive, odd sizes.
for sampling, label in ((0, "444"), (1, "422"), (2, "420")):
    write(f"j{label}.jpg", small(131, 97), quality=85, subsampling=sampling)
write("progressive.jpg", small(101, 133), quality=85, subsampling=2, progressive=True)
write("grey.jpg", small(99, 75).convert("L"), quality=85)
write("rgb.jpg", small(75, 99), quality=80, keep_rgb=True)
write("restarts.jpg", small(99, 75), quality=85, restart_marker_blocks=3)
for size in (1, 9, 17):
    write(f"tiny{size}.jpg", small(size, 2 * size), (32, 24), quality=85, subsampling=2)

# Orientation is not applied.
exif = Image.Exif()
exif[0x0112] = 6
# Nor is a thumbnail taken for the picture.
thumbnail = io.BytesIO()
small(40, 30).save(thumbnail, "JPEG")
write("rotated.jpg", small(120, 80), quality=85, exif=exif)
rotated = (here / "rotated.jpg").read_bytes()
app = b"\xff\xe5" + struct.pack(">H", 2 + len(thumbnail.getvalue())) + thumbnail.getvalue()
(here / "thumbnail.jpg").write_bytes(rotated[:2] + app + rotated[2:])
golden("thumbnail.jpg", (64, 56))

# CMYK, and the same with an Adobe segment that says that the first three are YCbCr.
cmyk = Image.merge("CMYK", (*small(60, 48).split(), small(60, 48).convert("L").point(lambda p: p // 2)))
write("cmyk.jpg", cmyk, quality=80)
data = bytearray((here / "cmyk.jpg").read_bytes())
at = data.index(b"Adobe")
assert data[at + 11] == 0
data[at + 11] = 2
(here / "ycck.jpg").write_bytes(data)
golden("ycck.jpg", (64, 56))

# PNG: kinds of pixels.
grey = small(80, 100).convert("L")
write("la.png", Image.merge("LA", (grey, grey.point(lambda p: 255 - p))), optimize=True)
palette = small(100, 80).quantize(32)
write("palette.png", palette, transparency=bytes(range(0, 256, 8)), optimize=True)
write("bit.png", grey.convert("1"), optimize=True)
write("interlaced-as.JPEG", small(60, 50), format="PNG", optimize=True)
width, height = 20, 24
wide = [[(x * 631 + y * 397 + x * y * 7) % 65536 for x in range(4 * width)] for y in range(height)]
row16 = lambda values: b"".join(struct.pack(">H", v) for v in values)
png("grey16.png", (width, height), 16, 0, [row16([v % 400 for v in row[:width]]) for row in wide])
png("la16.png", (width, height), 16, 4, [row16(row[: 2 * width]) for row in wide])
png("rgb16.png", (width, height), 16, 2, [row16(row[: 3 * width]) for row in wide])
png("rgba16.png", (width, height), 16, 6, [row16(row) for row in wide])
png("grey2.png", (width, height), 2, 0, [bytes(v % 256 for v in row[: width // 4]) for row in wide])
png("grey4.png", (width, height), 4, 0, [bytes(v % 256 for v in row[: width // 2]) for row in wide])
png("key.png", (width, height), 8, 2, [bytes(v % 256 for v in row[: 3 * width]) for row in wide],
    chunk(b"tRNS", struct.pack(">HHH", 0, 115, 230)))

# Others.
write("plain.bmp", small(50, 41))
write("palette.bmp", palette.resize((40, 30)))
write("colour.ppm", small(40, 31))
write("grey.pgm", grey.resize((40, 31)))
write("lossy.webp", small(121, 91), quality=80)
write("lossless.webp", small(60, 45), lossless=True)
write("alpha.webp", Image.merge("RGBA", (*small(60, 45).split(), small(60, 45).convert("L"))), quality=80)

# Sizes: extremes of shape, crops larger than the picture, the networks with other sizes.
write("line.png", small(3, 300), (64, 56), optimize=True)
write("row.png", small(300, 2), (64, 56), optimize=True)
write("same.png", small(56, 75), (56, 56), (56, 31), (40, 56), (40, 61), (41, 60), optimize=True)
golden("tall.png", (342, 299), (232, 224))
