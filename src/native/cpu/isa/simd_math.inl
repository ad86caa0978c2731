// What the vector vocabulary of every instruction set has in common.

// e^v within 2 units in the last place; 0 below -87.33, held at e^88.37 above; NaN stays NaN.
inline VecF exp(VecF v) {
    const VecF lowest = splat(-87.33f);
    const VecF x = min(splat(88.37f), max(lowest, v));
    const VecF n = round_even(mul(x, splat(1.44269504f)));
    // ln 2 in two parts, so that the remainder keeps its bits.
    VecF r = fma(n, splat(-0.693359375f), x);
    r = fma(n, splat(2.12194440e-4f), r);
    VecF p = splat(1.9875691500e-4f);
    p = fma(p, r, splat(1.3981999507e-3f));
    p = fma(p, r, splat(8.3334519073e-3f));
    p = fma(p, r, splat(4.1665795894e-2f));
    p = fma(p, r, splat(1.6666665459e-1f));
    p = fma(p, r, splat(5.0000001201e-1f));
    p = add(fma(p, mul(r, r), r), splat(1.f));
    return zero_if_less(v, lowest, mul(p, exp2_integer(n)));
}
