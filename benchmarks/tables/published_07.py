"""Composite minimax approximation of the sign function, for ReLU within 2^-7.
Degrees 7, 7: depth 6 and 10 non-scalar multiplications; with the last one of ReLU 7 and 11.
Margin of each component's interval: 2.384185791015625e-7.
Proven: ReLU on [-1, 1] within 7.5807e-3 (2^-7.043).
Proven with outputs disturbed by up to 2.384185791015625e-7: ReLU on [-1, 1] within 7.5807e-3 (2^-7.043).
Coefficients of T_0, T_1, ... on [-1, 1], for all components in turn; scaling is folded in.
"""

RELU_DEPTH = 7
RELU_ERROR = 7.5807009858593795e-3  # proven, for values in [-1, 1]
RELU_ERROR_DISTURBED = 7.580712502022323e-3  # the same, with outputs disturbed by up to
DELTA = 2.384185791015625e-7
SIGN_COMPONENTS = [
    [0.0, 0.9130991251408291, 0.0, -0.3039161144000849, 0.0, 0.18281315059470052, 0.0, -0.357282824461919],
    [0.0, 1.2449966360693923, 0.0, -0.3451944994389579, 0.0, 0.13913949508991133, 0.0, -0.05293358348359364],
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
