"""Composite minimax approximation of the sign function, for ReLU within 2^-9.
Degrees 15, 15: depth 8 and 16 non-scalar multiplications; with the last one of ReLU 9 and 17.
Margin of each component's interval: 2.384185791015625e-7.
Proven: ReLU on [-1, 1] within 1.9444e-3 (2^-9.006).
Proven with outputs disturbed by up to 2.384185791015625e-7: ReLU on [-1, 1] within 1.9444e-3 (2^-9.006).
Coefficients of T_0, T_1, ... on [-1, 1], for all components in turn; scaling is folded in.
"""

RELU_DEPTH = 9
RELU_ERROR = 1.9443591614132934e-3  # proven, for values in [-1, 1]
RELU_ERROR_DISTURBED = 1.9443632505921566e-3  # the same, with outputs disturbed by up to
DELTA = 2.384185791015625e-7
SIGN_COMPONENTS = [
    [0.0, 0.8229703850552652, 0.0, -0.2749774394100123, 0.0, 0.16581809192524538, 0.0, -0.11942246119411579, 0.0, 0.09404730655334723, 0.0, -0.0783608030362953, 0.0, 0.06807823748897547, 0.0, -0.38581026690174297],
    [0.0, 1.263400276816805, 0.0, -0.3956219648317876, 0.0, 0.20898553550127474, 0.0, -0.1225202454368169, 0.0, 0.07222970617044722, 0.0, -0.04068959407908877, 0.0, 0.02087903481049016, 0.0, -0.01033753941281597],
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
