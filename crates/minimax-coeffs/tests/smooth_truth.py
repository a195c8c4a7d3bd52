"""Writes smooth_truth.in: values and derivatives of the smooth activation functions, by mpmath (1.3.0)."""

import mpmath as mp

mp.mp.dps = 50
CUBIC = mp.mpf(0.044715)  # the float64 number
FUNCTIONS = [
    lambda x: 1 / (1 + mp.exp(-x)),
    mp.tanh,
    lambda x: x / (1 + mp.exp(-x)),
    lambda x: x * mp.erfc(-x / mp.sqrt(2)) / 2,
    lambda x: x / (1 + mp.exp(-2 * mp.sqrt(2 / mp.pi) * (x + CUBIC * x**3))),
]
POINTS = [-20.0, -9.5, -5.0, -3.25, -2.0, -1.0, -0.5, -0.125, -1e-3, 0.0, 1e-6, 0.0625, 0.75, 1.5, 2.5, 4.0, 7.0, 30.0]

with open("smooth_truth.in", "w") as file:
    file.write("[\n")
    for x in POINTS:
        pairs = [(mp.nstr(f(mp.mpf(x)), 20), mp.nstr(mp.diff(f, mp.mpf(x)), 20)) for f in FUNCTIONS]
        literal = lambda s: repr(float(s))
        file.write(f"    ({x!r}, [" + ", ".join(f"({literal(a)}, {literal(b)})" for a, b in pairs) + "]),\n")
    file.write("]\n")
