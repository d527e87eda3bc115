"""The picture of growth.py: a panel an axis, both scales logarithmic, so that a straight line is a power and a slope of one is
proportion (the dotted line through the last point of f32). SVG, without a library; readable on light and dark pages.
"""

import math

WIDTH, HEIGHT, LEFT, TOP, GAP = 250, 200, 56, 34, 40
COLOURS = {"f32": "#2563eb", "bf16": "#d97706"}


def picture(found):
    axes = list(dict.fromkeys(point["axis"] for point in found))
    columns = 3
    lines = -(-len(axes) // columns)
    width, height = columns * (WIDTH + LEFT + 14), lines * (HEIGHT + TOP + GAP) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for i, axis in enumerate(axes):
        x, y = (i % columns) * (WIDTH + LEFT + 14) + LEFT, (i // columns) * (HEIGHT + TOP + GAP) + TOP
        parts.append(f'<g transform="translate({x},{y})">{panel(axis, [p for p in found if p["axis"] == axis])}</g>')
    parts.append(legend(len(axes) % columns * (WIDTH + LEFT + 14) + LEFT, (lines - 1) * (HEIGHT + TOP + GAP) + TOP + 20))
    return "\n".join([*parts, "</svg>\n"])


def panel(axis, points):
    values = sorted({point["value"] for point in points})
    times = [point["step_ms"] for point in points]
    low, high = min(times) / 1.3, max(times) * 1.3
    across = lambda value: scale(value, values[0], values[-1], WIDTH) if len(values) > 1 else WIDTH / 2
    up = lambda time: HEIGHT - scale(time, low, high, HEIGHT)
    parts = [f'<text x="{WIDTH / 2}" y="-12" text-anchor="middle" font-weight="bold">{axis}</text>']
    parts.append(f'<rect width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#9ca3af"/>')
    for value in values:
        parts.append(f'<text x="{across(value):.1f}" y="{HEIGHT + 15}" text-anchor="middle" fill="#374151">{value}</text>')
    for time in ticks(low, high):
        parts.append(f'<path d="M0 {up(time):.1f}H{WIDTH}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="-6" y="{up(time) + 4:.1f}" text-anchor="end" fill="#374151">{time:g}</text>')
    parts.append(f'<text transform="translate(-44,{HEIGHT / 2}) rotate(-90)" text-anchor="middle" fill="#374151">ms a step</text>')
    parts.append(proportion(axis, values, points, across, up, low, high))
    for precision, colour in COLOURS.items():
        mine = sorted((p["value"], p["step_ms"]) for p in points if p["precision"] == precision)
        path = " ".join(f"{across(value):.1f},{up(time):.1f}" for value, time in mine)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{across(value):.1f}" cy="{up(time):.1f}" r="3" fill="{colour}"/>' for value, time in mine]
    return "".join(parts)


def proportion(axis, values, points, across, up, low, high):
    """The dotted line of proportion through the last point of f32: falling with threads, rising else."""
    if len(values) < 2:
        return ""
    last = next(p["step_ms"] for p in points if p["value"] == values[-1] and p["precision"] == "f32")
    power = -1 if axis == "threads" else 1
    inside = []
    for i in range(101):
        value = values[0] * (values[-1] / values[0]) ** (i / 100)
        time = last * (value / values[-1]) ** power
        if low <= time <= high:
            inside.append(f"{across(value):.1f},{up(time):.1f}")
    return f'<polyline points="{" ".join(inside)}" fill="none" stroke="#6b7280" stroke-dasharray="2 4"/>'


def legend(x, y):
    parts = []
    for i, (name, colour) in enumerate([*COLOURS.items(), ("proportion", "#6b7280")]):
        dashed = ' stroke-dasharray="2 4"' if name == "proportion" else ""
        parts.append(f'<path d="M{x} {y + 20 * i}h30" stroke="{colour}" stroke-width="2"{dashed}/>')
        parts.append(f'<text x="{x + 38}" y="{y + 20 * i + 4}">{name}</text>')
    return "".join(parts)


def scale(value, low, high, length):
    return length * math.log(value / low) / math.log(high / low)


def ticks(low, high):
    """Round numbers within: three to eight of them, if there are so many."""
    first = math.floor(math.log10(low))
    for steps in [(1,), (1, 2, 5), (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)]:
        inside = [step * 10.0**power for power in range(first, first + 9) for step in steps]
        inside = [mark for mark in inside if low <= mark <= high]
        if len(inside) >= 3:
            break
    return inside
