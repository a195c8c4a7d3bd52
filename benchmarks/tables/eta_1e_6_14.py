"""Composite minimax approximation of the sign function, for ReLU within 2^-14.
Degrees 15, 27, 29: depth 14 and 29 non-scalar multiplications; with the last one of ReLU 15 and 30.
Margin of each component's interval: 1e-6.
Proven: ReLU on [-1, 1] within 5.8634e-5 (2^-14.058).
Proven with outputs disturbed by up to 1e-6: ReLU on [-1, 1] within 5.9136e-5 (2^-14.046).
Coefficients of T_0, T_1, ... on [-1, 1], for all components in turn; scaling is folded in.
"""

RELU_DEPTH = 15
RELU_ERROR = 5.863412144302418e-5  # proven, for values in [-1, 1]
RELU_ERROR_DISTURBED = 5.9136180479965124e-5  # the same, with outputs disturbed by up to
DELTA = 1e-6
SIGN_COMPONENTS = [
    [0.0, 0.6450460632174995, 0.0, -0.2164212597323602, 0.0, 0.13159625521145757, 0.0, -0.09597293368690957, 0.0, 0.07686713776298654, 0.0, -0.06542430542543819, 0.0, 0.058319360221847166, 0.0, -0.5215909777071811],
    [0.0, 0.8024938581045256, 0.0, -0.2677634723443531, 0.0, 0.16092014043906555, 0.0, -0.11529727270855561, 0.0, 0.08998750633527354, 0.0, -0.07403123039389027, 0.0, 0.06300475374907082, 0.0, -0.05507048681578959, 0.0, 0.04902564761746594, 0.0, -0.04441878259410042, 0.0, 0.04072823520610097, 0.0, -0.03787189138772381, 0.0, 0.03554535187226349, 0.0, -0.3870649321361047],
    [0.0, 1.268241029305285, 0.0, -0.4096229085800809, 0.0, 0.23066536412721034, 0.0, -0.14966264779397437, 0.0, 0.10221570981904227, 0.0, -0.07086880118840717, 0.0, 0.048921040272070525, 0.0, -0.03319187638481978, 0.0, 0.021903945715934858, 0.0, -0.013916877923020524, 0.0, 0.008414134126210886, 0.0, -0.00476629492560819, 0.0, 0.0024705848916413238, 0.0, -0.001123377068736465, 0.0, 0.00043834490394246544],
]


def sign(engine, x, relinearization_key):
    """For an encrypted x in [-1, 1]."""
    for component in SIGN_COMPONENTS:
        x = engine.evaluate_chebyshev_polynomial(x, component, relinearization_key)
    return x


def relu(engine, x, relinearization_key):
    """For an encrypted x in [-1, 1]."""
    s = engine.add(sign(engine, x, relinearization_key), 1.0)
    return engine.multiply(engine.multiply(x, 0.5), s, relinearization_key)
