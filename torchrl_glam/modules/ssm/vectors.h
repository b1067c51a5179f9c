// Vectors of 64 bytes of float or double, and the functions that Mamba needs of them; GCC's and Clang's extensions.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

template <typename T> struct Lanes;
template <> struct Lanes<float> {
    typedef float V __attribute__((vector_size(64)));
    typedef int32_t I __attribute__((vector_size(64)));
};
template <> struct Lanes<double> {
    typedef double V __attribute__((vector_size(64)));
};
template <typename T> constexpr int64_t WIDTH = 64 / sizeof(T);

template <typename T> using V = typename Lanes<T>::V;

template <typename T> inline V<T> load(const T* from, int64_t count) {
    V<T> v = {};
    if (count >= WIDTH<T>) std::memcpy(&v, from, sizeof(v));
    else for (int64_t i = 0; i < count; ++i) v[i] = from[i];
    return v;
}

template <typename T> inline void store(T* to, V<T> v, int64_t count) {
    if (count >= WIDTH<T>) std::memcpy(to, &v, sizeof(v));
    else for (int64_t i = 0; i < count; ++i) to[i] = v[i];
}

template <typename T> inline T sum(V<T> v) {
    T part[WIDTH<T>];
    std::memcpy(part, &v, sizeof(v));
    for (int64_t half = WIDTH<T> / 2; half; half /= 2) for (int64_t i = 0; i < half; ++i) part[i] += part[i + half];
    return part[0];
}

// e^x = 2^k e^r with |r| <= ln(2)/2; the polynomial is Cephes' expf (2 ulp). Rounding by 1.5 * 2^23 leaves k in the bits.
// A NaN stays one.
inline V<float> exponential_below_88(V<float> x) {
    x = x < -87.0f ? V<float>{} - 87.0f : x;
    const V<float> shifted = x * 1.44269504f + 12582912.0f;
    const V<float> k = shifted - 12582912.0f;
    const V<float> r = (x - k * 0.693359375f) + k * 2.12194440e-4f;
    V<float> p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return (V<float>)((Lanes<float>::I)p + ((Lanes<float>::I)shifted << 23));
}

inline V<float> exponential(V<float> x) { return exponential_below_88(x > 88.0f ? V<float>{} + 88.0f : x); }

inline V<double> exponential(V<double> x) {  // for exact tests, not for speed
    for (int64_t i = 0; i < WIDTH<double>; ++i) x[i] = std::exp(x[i]);
    return x;
}

inline V<double> exponential_below_88(V<double> x) { return exponential(x); }

template <typename T> inline V<T> sigmoid(V<T> x) { return T(1) / (T(1) + exponential(-x)); }

// log(1 + e^x) = max(x, 0) + log1p(e^-|x|), and log1p(y) = 2 artanh(y / (2 + y)), whose series ends at float's precision.
inline V<float> softplus(V<float> x) {
    const V<float> y = exponential_below_88(x < 0.0f ? x : -x);
    const V<float> s = y / (y + 2.0f), q = s * s;
    V<float> p = q * (2.0f / 15) + 2.0f / 13;
    p = p * q + 2.0f / 11;
    p = p * q + 2.0f / 9;
    p = p * q + 2.0f / 7;
    p = p * q + 2.0f / 5;
    p = p * q + 2.0f / 3;
    p = p * q + 2.0f;
    return (x < 0.0f ? V<float>{} : x) + p * s;
}

inline V<double> softplus(V<double> x) {
    for (int64_t i = 0; i < WIDTH<double>; ++i) x[i] = std::max(x[i], 0.0) + std::log1p(std::exp(-std::abs(x[i])));
    return x;
}

}  // namespace
