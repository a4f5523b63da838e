"""The trend chart as inline SVG: one bar per scan, stacked by severity, the most severe at the bottom.

The style sheet of the page defines the colours, by a class for each severity.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scanstore.db.state_machine import SEVERITIES
from scanstore.report.document import Point, described

MOST = 40  #: the number of latest scans that are drawn
WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 12, 24
WIDEST = 40  #: the maximum width of a bar


def trend(points: Sequence[Point], marked: Sequence[int] = ()) -> Iterator[str]:
    """Yield the lines of the SVG. The numbers of ``marked`` scans are bold."""
    points = points[-MOST:]
    top, step = _scale(max((sum(point.counts) for point in points), default=0))
    high, slot = HEIGHT - TOP - BOTTOM, (WIDTH - LEFT - RIGHT) / max(len(points), 1)
    wide = min(WIDEST, slot * 0.7)
    base = HEIGHT - BOTTOM
    yield f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Findings to be fixed after each scan">'
    for value in range(0, top + 1, step):
        y = base - high * value / top
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:,}</text>'
    every = -(-len(points) // 14)
    for number, point in enumerate(points):
        middle, y = LEFT + slot * (number + 0.5), float(base)
        told = ", ".join(described(zip(SEVERITIES, point.counts, strict=True))) or "nothing to be fixed"
        yield f"<g><title>Scan {point.scan}, {point.at[:10]}: {told}</title>"
        yield f'<rect class="slot" x="{middle - slot / 2:.1f}" y="{TOP}" width="{slot:.1f}" height="{high}"/>'
        for severity, count in zip(SEVERITIES, point.counts, strict=True):
            tall = high * count / top
            y -= tall
            if count:
                yield (
                    f'<rect class="{severity}" x="{middle - wide / 2:.1f}" y="{y:.1f}"'
                    f' width="{wide:.1f}" height="{tall:.1f}"/>'
                )
        if (len(points) - 1 - number) % every == 0 or point.scan in marked:
            weight = ' class="tick marked"' if point.scan in marked else ' class="tick"'
            yield f'<text{weight} x="{middle:.1f}" y="{base + 16}" text-anchor="middle">{point.scan}</text>'
        yield "</g>"
    yield "</svg>"


def _scale(most: int) -> tuple[int, int]:
    """Return the end of the axis and the distance of its ticks, for three to six round steps."""
    size = 1
    while True:
        for step in (size, size * 2, size * 5):
            if most <= step * 5:
                return max(-(-most // step), 1) * step, step
        size *= 10
