"""The same picture as a smaller SVG file: matplotlib repeats every style and marker, and writes six decimals.

The ids in the result are those of markers and clip paths, numbered by their turn. Matplotlib's own are hashes of
coordinates, whose last digits differ between processors.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from xml.etree.ElementTree import Element, SubElement

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
PATH, USE, TEXT = f"{SVG}path", f"{SVG}use", f"{SVG}text"
IN_AXIS = (PATH, USE, TEXT)  # order within an axis: grid, ticks, labels, so that neighbours have one style
PLACES = 1  # decimals of a coordinate in points: closer than can be seen
MARKER_PLACES = 2  # of a marker's outline, which is a few points wide
FONT_SIZE = "9px"  # of most texts; the file names it once
DEFAULTS = {f"font-size:{FONT_SIZE}", "text-anchor:start"}
COORDINATES = {"x", "y", "width", "height", "transform"}
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def compact(root: Element, name: str) -> Element:
    """Return a file of matplotlib's as a smaller one.

    Args:
        root: the file; its parts are changed.
        name: ids begin with it.
    """
    small = Element(root.tag, {key: root.attrib[key] for key in ("width", "height", "viewBox")})
    defs = SubElement(small, f"{SVG}defs")
    clips = {}
    for clip in root.iter(f"{SVG}clipPath"):
        clips[f"url(#{clip.attrib['id']})"] = f"url(#{(own := f'{name}-{len(defs) + 1}')})"
        clip.set("id", own)
        defs.append(clip)
    small.extend(_grouped(_merged(_marked(root, list(_leaves(root, clips)), defs, name)), "clip-path"))
    for group in [small, *small.findall(f"{SVG}g")]:
        group[:] = _grouped(list(group), "style")
    for element in small.iter():
        element.tail = None
        element.text = element.text if element.tag == TEXT else None
        for key in COORDINATES & set(element.attrib):
            element.set(key, NUMBER.sub(lambda found: _text(float(found[0]), PLACES), element.attrib[key]))
    return small


def _leaves(element: Element, clips: dict[str, str], clip: str | None = None) -> Iterator[Element]:
    """Yield what is drawn, in order, without its groups: each with its own style, shortened, and its clip path."""
    found: list[Element] = []
    for child in element:
        within = clips.get(child.get("clip-path", ""), clip)
        if child.tag == f"{SVG}g":
            found += _leaves(child, clips, within)
        elif child.tag in (USE, TEXT) or (child.tag == PATH and child.get("d")):  # not a path without a point
            child.attrib.pop("id", None)
            child.attrib |= {"clip-path": within} if within else {}
            _shorten(child)
            found.append(child)
    if element.get("id", "").startswith("matplotlib.axis"):
        found.sort(key=lambda leaf: IN_AXIS.index(leaf.tag))
    yield from found


def _shorten(element: Element) -> None:
    parts = [part.strip().replace(": ", ":") for part in element.attrib.pop("style", "").split(";")]
    kept = [part for part in parts if part and part not in DEFAULTS and not part.startswith("font-family")]
    if kept:
        element.set("style", ";".join(kept))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    if (text := element.text or "").startswith(" "):  # a distance from a line, which a browser would leave out
        element.text = "\N{NO-BREAK SPACE}" + text.lstrip(" ")
    if path := element.get("d"):
        element.set("d", short_path(path, PLACES))


def _marked(root: Element, leaves: list[Element], defs: Element, name: str) -> Iterator[Element]:
    """Yield the leaves; in place of the marks of a series, one path that has a marker at each of its corners."""
    outlines = {f"#{path.get('id')}": path for path in root.iterfind(f".//{SVG}g/{SVG}defs/{PATH}")}
    markers: dict[tuple[str, str], str] = {}

    def marker(target: str, style: str) -> str:
        if (target, style) not in markers:
            about = {"id": f"{name}-{len(defs) + 1}", "overflow": "visible", "markerUnits": "userSpaceOnUse"}
            outline = {"d": short_path(outlines[target].attrib["d"], MARKER_PLACES), "style": style}
            SubElement(SubElement(defs, f"{SVG}marker", about), PATH, outline)
            markers[target, style] = f"fill:none;marker:url(#{about['id']})"
        return markers[target, style]

    for leaf, run in _runs(leaves, f"{XLINK}href", "style", "clip-path"):
        if leaf.tag == USE:
            corners = " L ".join(f"{mark.attrib['x']} {mark.attrib['y']}" for mark in run)
            made = {"d": short_path(f"M {corners}", PLACES)}
            made["style"] = marker(leaf.attrib[f"{XLINK}href"], leaf.get("style", ""))
            yield Element(PATH, made | {"clip-path": clip} if (clip := leaf.get("clip-path")) else made)
        else:
            yield from run


def _merged(leaves: Iterable[Element]) -> Iterator[Element]:
    """Yield the leaves; of lines that follow each other in one style, as grids and bars do, one path."""
    for leaf, run in _runs(leaves, "style", "clip-path"):
        style = leaf.get("style", "")
        if leaf.tag == PATH and "fill:none" in style and not re.search("opacity|marker", style):
            leaf.set("d", "".join(each.attrib["d"] for each in run))
            yield leaf
        else:
            yield from run


def _grouped(leaves: Iterable[Element], key: str) -> list[Element]:
    """Return the leaves; those that follow each other and share an attribute are in a group that has it."""
    made = []
    for value, members in groupby(leaves, lambda leaf: leaf.get(key)):
        run = list(members)
        if value and len(run) > 1:
            group = Element(f"{SVG}g", {key: value})
            for member in run:
                del member.attrib[key]
            group.extend(run)
            run = [group]
        made += run
    return made


def _runs(leaves: Iterable[Element], *keys: str) -> Iterator[tuple[Element, list[Element]]]:
    """Yield the leaves that follow each other and are of one kind, with the same attributes; and their first."""
    for _, members in groupby(leaves, lambda leaf: (leaf.tag, *(leaf.get(key) for key in keys))):
        run = list(members)
        yield run[0], run


def short_path(path: str, places: int) -> str:
    """Return a path with rounded coordinates, whose lines go by steps from one rounded place to the next.

    Args:
        path: commands M, L, Q, C and z, with absolute coordinates.
        places: decimals.

    Example:
        >>> short_path("M 10.04 20 L 11.06 19.5 L 12 19.5", 1)
        'M10 20l1.1-.5 .9 0'
    """
    unit = 10**places
    made, before, x, y = "", "", 0, 0
    for command, found in re.findall(r"([MLQCz])([^MLQCz]*)", path):
        letter, numbers = command, [round(float(number) * unit) for number in NUMBER.findall(found)]
        end = numbers[-2:] or [x, y]
        if command == "L":
            letter, numbers = "l", [end[0] - x, end[1] - y]
        x, y = end
        texts = [_text(number / unit, places) for number in numbers]
        made += letter if letter != before or letter == "M" else "" if texts[0].startswith("-") else " "
        made += "".join(text if text.startswith("-") or not turn else f" {text}" for turn, text in enumerate(texts))
        before = letter
    return made


def _text(number: float, places: int) -> str:
    """Return a number rounded, without needless zeros."""
    text = f"{round(number, places):.{places}f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "0") else re.sub(r"^(-?)0\.", r"\1.", text)
