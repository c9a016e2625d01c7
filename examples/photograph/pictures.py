"""Read the photograph, and write the picture of before and after."""

import numpy
from matplotlib import cbook
from matplotlib.figure import Figure
from PIL import Image

PHOTOGRAPH = "grace_hopper.jpg"


def photograph():
    """Return the photograph that comes with matplotlib."""
    return Image.open(cbook.get_sample_data(PHOTOGRAPH, asfileobj=False)).convert("RGB")


def enlarged(image, times):
    """Return an image as doubles from 0 to 1, enlarged `times` times in both directions."""
    larger = image.resize((image.width * times, image.height * times), Image.Resampling.BICUBIC)
    return numpy.asarray(larger, numpy.float64) / 255


def show(axes, picture, rows, columns):
    """Draw a part of a picture into axes without ticks."""
    top, bottom = rows
    left, right = columns
    axes.imshow(picture[top:bottom, left:right], extent=(left, right, bottom, top), interpolation="antialiased")
    axes.set_xticks([])
    axes.set_yticks([])


def side_by_side(path, title, before, after, border):
    """Write a PNG of two pictures with captions, and a detail of both below; mark the row `border`."""
    height, width, _ = before[0].shape
    middle = border or height // 4
    whole = (0, height), (0, width)
    part = (max(middle - height // 10, 0), min(middle + height // 10, height)), (width // 4, width * 3 // 4)
    ratios = [(rows[1] - rows[0]) / (columns[1] - columns[0]) for rows, columns in (whole, part)]
    figure = Figure(figsize=(11, 5.3 * sum(ratios) + 1.2), layout="constrained", facecolor="white")
    axes = figure.subplots(2, 2, gridspec_kw={"height_ratios": ratios})
    figure.suptitle(title, fontsize=14)
    for column, (picture, caption) in enumerate((before, after)):
        show(axes[0, column], picture, *whole)
        show(axes[1, column], picture, *part)
        axes[0, column].set_title(caption, fontsize=11)
        axes[1, column].set_xlabel("detail", fontsize=10)
    if border:
        axes[1, 1].set_xlabel("the marks show where the bands of two workers meet", fontsize=10)
        for start, end in (0, 0.04), (0.96, 1):
            axes[1, 1].axhline(border, start, end, color="white", linewidth=3)
            axes[1, 1].axhline(border, start, end, color="black", linewidth=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
