"""Composite minimax approximation of the sign function, for ReLU within 2^-10.
Degrees 7, 7, 13: depth 10 and 17 non-scalar multiplications; with the last one of ReLU 11 and 18.
Margin of each component's interval: 2.384185791015625e-7.
Proven: ReLU on [-1, 1] within 9.0321e-4 (2^-10.113).
Proven with outputs disturbed by up to 2.384185791015625e-7: ReLU on [-1, 1] within 9.0321e-4 (2^-10.113).
Coefficients of T_0, T_1, ... on [-1, 1], for all components in turn; scaling is folded in.
"""

RELU_DEPTH = 11
RELU_ERROR = 9.032068283860865e-4  # proven, for values in [-1, 1]
RELU_ERROR_DISTURBED = 9.032135839139566e-4  # the same, with outputs disturbed by up to
DELTA = 2.384185791015625e-7
SIGN_COMPONENTS = [
    [0.0, 0.6858992694151549, 0.0, -0.2349126764693178, 0.0, 0.14984960658354343, 0.0, -0.5269128344305006],
    [0.0, 0.8813013061760995, 0.0, -0.29483175373530623, 0.0, 0.1792233427055006, 0.0, -0.3818165265581126],
    [0.0, 1.2579341439006622, 0.0, -0.3802932111771187, 0.0, 0.18671373854604528, 0.0, -0.0972921489049642, 0.0, 0.04808409016913604, 0.0, -0.020775638512752367, 0.0, 0.007217068003784812],
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
