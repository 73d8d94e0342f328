"""A picture of growth, both axes logarithmic, as SVG."""

import math
from html import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 40, 50
STYLES = (("#1f6feb", ""), ("#8b949e", "6 4"), ("#d29922", "2 3"))


def growth(title, across, series):
    """`series` is [(name, [(x, y)])], y relative to the first point; x in powers of two."""
    xs = sorted({x for _, points in series for x, _ in points})
    top = max(y for _, points in series for _, y in points) * 1.1
    bottom = min(y for _, points in series for _, y in points) / 1.1
    span = math.log(xs[-1] / xs[0])

    def place(x, y):
        right = LEFT + (WIDTH - LEFT - RIGHT) * math.log(x / xs[0]) / span
        down = TOP + (HEIGHT - TOP - BOTTOM) * (1 - math.log(y / bottom) / math.log(top / bottom))
        return f"{right:.1f}", f"{down:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="13"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{escape(title)}</text>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(across)}</text>',
    ]
    for x in xs:
        right, _ = place(x, bottom)
        parts.append(f'<text x="{right}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x:,}</text>')
    for tick in ticks(bottom, top):
        _, down = place(xs[0], tick)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down}" y2="{down}" stroke="#e1e4e8"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{down}" dy="4" text-anchor="end">{tick:g}×</text>')
    for index, ((name, points), (color, dashes)) in enumerate(zip(series, STYLES)):
        line = " ".join(",".join(place(x, y)) for x, y in points)
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2" stroke-dasharray="{dashes}"/>'
        )
        for x, y in points:
            right, down = place(x, y)
            parts.append(f'<circle cx="{right}" cy="{down}" r="3.5" fill="{color}"/>')
        down = TOP + 14 + 20 * index
        parts.append(f'<line x1="{LEFT + 12}" x2="{LEFT + 42}" y1="{down}" y2="{down}" stroke="{color}" '
                     f'stroke-width="2" stroke-dasharray="{dashes}"/>')  # fmt: skip
        parts.append(f'<text x="{LEFT + 50}" y="{down + 4}">{escape(name)}</text>')
    return "\n".join(parts) + "\n</svg>\n"


def ticks(bottom, top):
    """Round factors within the picture."""
    steps = (0.5, 0.7, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32)
    return [step for step in steps if bottom <= step <= top]
