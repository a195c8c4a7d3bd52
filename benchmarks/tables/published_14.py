"""Composite minimax approximation of the sign function, for ReLU within 2^-14.
Degrees 15, 27, 29: depth 14 and 29 non-scalar multiplications; with the last one of ReLU 15 and 30.
Margin of each component's interval: 2.384185791015625e-7.
Proven: ReLU on [-1, 1] within 6.0344e-5 (2^-14.016).
Proven with outputs disturbed by up to 2.384185791015625e-7: ReLU on [-1, 1] within 6.0347e-5 (2^-14.016).
Coefficients of T_0, T_1, ... on [-1, 1], for all components in turn; scaling is folded in.
"""

RELU_DEPTH = 15
RELU_ERROR = 6.0344273929329974e-5  # proven, for values in [-1, 1]
RELU_ERROR_DISTURBED = 6.034661979393351e-5  # the same, with outputs disturbed by up to
DELTA = 2.384185791015625e-7
SIGN_COMPONENTS = [
    [0.0, 0.6454726404275317, 0.0, -0.2165625942469432, 0.0, 0.13168001543166039, 0.0, -0.09603162799614574, 0.0, 0.0769115843972186, 0.0, -0.06545940361000464, 0.0, 0.058347732638170766, 0.0, -0.5212688239774758],
    [0.0, 0.8105429822047704, 0.0, -0.2704303232289287, 0.0, 0.16250184724916644, 0.0, -0.11640609220162865, 0.0, 0.0908292279522934, 0.0, -0.07469732738481498, 0.0, 0.0635464365344232, 0.0, -0.05551619346420489, 0.0, 0.04939585446762176, 0.0, -0.04472506794365866, 0.0, 0.040981000139349515, 0.0, -0.03807627700935492, 0.0, 0.0357074098624659, 0.0, -0.3808096334080292],
    [0.0, 1.2679663102257586, 0.0, -0.40882327859099715, 0.0, 0.2294111845707241, 0.0, -0.14806108684972583, 0.0, 0.10039722934011441, 0.0, -0.06897138935715807, 0.0, 0.047074466049520994, 0.0, -0.03150435196449537, 0.0, 0.02045282590766801, 0.0, -0.012744486027677741, 0.0, 0.007528666466481674, 0.0, -0.004147165276957565, 0.0, 0.0020767003815014597, 0.0, -0.0009027605253216937, 0.0, 0.00032420749720848014],
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
