// A stack of GLoMa blocks over the next few tokens of a few sequences, from the memory of those before: for acting, where
// the calls of single operations would take longer than their work. acting.py compiles and calls it.
//
// r rows (sequences times tokens), d width, n size of a channel's state, k length of the convolution.

#include <vector>

#include "vectors.h"

namespace {

template <typename T> struct Branch {
    int64_t inner, n, k, rank, length;  // length: tokens of a piece, 0 for the whole sequence
    double eps;
    const T *norm_weight, *norm_bias, *in_weight, *in_bias, *conv_weight, *conv_bias, *x_weight, *dt_weight, *dt_bias;
    const T *A_log, *D, *out_weight, *out_bias, *scale;  // scale: of the branch's output, may be null
    T *conv, *ssm;  // [b k-1 inner], [b inner n]: read and written
    int64_t* position;  // [b], tokens of the piece so far
};

template <typename T> struct Layer {
    int64_t count;
    Branch<T> branches[2];
    double eps;
    const T *norm_weight, *norm_bias, *first_weight, *first_bias, *second_weight, *second_bias;
};

template <typename T> struct Stack {
    int64_t b, t, d, count;
    const Layer<T>* layers;
    double eps;
    const T *norm_weight, *norm_bias;
    T* tokens;  // [b t d]: read and written
};

template <typename T> T dot(const T* x, const T* y, int64_t size) {
    V<T> even = {}, odd = {};
    int64_t i = 0;
    for (; i + 2 * WIDTH<T> <= size; i += 2 * WIDTH<T>) {
        even += load(x + i, WIDTH<T>) * load(y + i, WIDTH<T>);
        odd += load(x + i + WIDTH<T>, WIDTH<T>) * load(y + i + WIDTH<T>, WIDTH<T>);
    }
    for (; i < size; i += WIDTH<T>) even += load(x + i, size - i) * load(y + i, size - i);
    return sum<T>(even + odd);
}

// y[r o] = bias + x[r i] weight[o i]; a row of weights is read once for all rows.
template <typename T>
void linear(const T* x, int64_t stride, int64_t rows, int64_t in, const T* weight, const T* bias, int64_t out, T* y) {
    for (int64_t o = 0; o < out; ++o) for (int64_t r = 0; r < rows; ++r)
        y[r * out + o] = dot(x + r * stride, weight + o * in, in) + (bias ? bias[o] : T(0));
}

template <typename T> void normalise(const T* x, int64_t rows, int64_t d, const T* weight, const T* bias, double eps, T* y) {
    for (int64_t r = 0; r < rows; ++r) {
        T mean = 0, variance = 0;
        for (int64_t i = 0; i < d; ++i) mean += x[r * d + i];
        mean /= d;
        for (int64_t i = 0; i < d; ++i) variance += (x[r * d + i] - mean) * (x[r * d + i] - mean);
        const T scale = T(1) / std::sqrt(variance / d + T(eps));
        for (int64_t i = 0; i < d; ++i) y[r * d + i] = (x[r * d + i] - mean) * scale * weight[i] + bias[i];
    }
}

template <typename T, typename F> void apply(T* x, int64_t size, F function) {
    for (int64_t i = 0; i < size; i += WIDTH<T>) store(x + i, function(load(x + i, size - i)), size - i);
}

// The convolution of one sequence's tokens, in place in the first half of projected [t 2*inner]; moves the memory on.
template <typename T> void convolve(const Branch<T>& m, int64_t b, int64_t t, T* projected, T* u) {
    const int64_t kept = m.k - 1;
    T* before = m.conv + b * kept * m.inner;
    int64_t position = m.position ? m.position[b] : 1;
    for (int64_t i = 0; i < t; ++i) {
        const T* x = projected + i * 2 * m.inner;
        if (m.length && position == 0) std::fill_n(before, kept * m.inner, T(0));
        for (int64_t c = 0; c < m.inner; ++c) {
            const T* weight = m.conv_weight + c * m.k;
            T p = (m.conv_bias ? m.conv_bias[c] : T(0)) + weight[kept] * x[c];
            for (int64_t j = 0; j < kept; ++j) p += weight[j] * before[j * m.inner + c];
            u[i * m.inner + c] = p;
        }
        std::memmove(before, before + m.inner, std::max<int64_t>(0, kept - 1) * m.inner * sizeof(T));
        if (kept) std::copy_n(x, m.inner, before + (kept - 1) * m.inner);
        if (m.length) position = (position + 1) % m.length;
    }
    apply(u, t * m.inner, [](V<T> p) { return p * sigmoid<T>(p); });
}

// The scan of one sequence's tokens; u becomes the output, before the gate.
template <typename T> void scan(const Branch<T>& m, int64_t b, int64_t t, const T* A, const T* selected, const T* delta, T* u) {
    T* state = m.ssm + b * m.inner * m.n;
    int64_t position = m.position ? m.position[b] : 1;
    for (int64_t i = 0; i < t; ++i) {
        const T *B = selected + i * (m.rank + 2 * m.n) + m.rank, *C = B + m.n;
        const bool begins = m.length && position == 0;
        for (int64_t c = 0; c < m.inner; ++c) {
            T* h = state + c * m.n;
            const T step = delta[i * m.inner + c], v = step * u[i * m.inner + c];
            V<T> y = {};
            for (int64_t j = 0; j < m.n; j += WIDTH<T>) {
                const int64_t count = m.n - j;
                V<T> next = load(B + j, count) * v;
                if (!begins) next += exponential_below_88(load(A + c * m.n + j, count) * step) * load(h + j, count);
                store(h + j, next, count);
                y += next * load(C + j, count);
            }
            u[i * m.inner + c] = sum<T>(y) + m.D[c] * u[i * m.inner + c];
        }
        if (m.length) position = (position + 1) % m.length;
    }
    if (m.length) m.position[b] = position;
}

// Adds scale * Mamba(Norm(tokens)) to sums.
template <typename T> void run(const Branch<T>& m, const Stack<T>& s, T* sums) {
    const int64_t rows = s.b * s.t, selected_size = m.rank + 2 * m.n;
    std::vector<T> hidden(rows * s.d), projected(rows * 2 * m.inner), u(rows * m.inner), selected(rows * selected_size);
    std::vector<T> delta(rows * m.inner), A(m.A_log, m.A_log + m.inner * m.n);
    apply(A.data(), m.inner * m.n, [](V<T> logarithm) { return -exponential(logarithm); });
    normalise(s.tokens, rows, s.d, m.norm_weight, m.norm_bias, m.eps, hidden.data());
    linear(hidden.data(), s.d, rows, s.d, m.in_weight, m.in_bias, 2 * m.inner, projected.data());
    for (int64_t b = 0; b < s.b; ++b) convolve(m, b, s.t, &projected[b * s.t * 2 * m.inner], &u[b * s.t * m.inner]);
    linear(u.data(), m.inner, rows, m.inner, m.x_weight, static_cast<const T*>(nullptr), selected_size, selected.data());
    linear(selected.data(), selected_size, rows, m.rank, m.dt_weight, m.dt_bias, m.inner, delta.data());
    apply(delta.data(), rows * m.inner, [](V<T> x) { return softplus(x); });
    for (int64_t b = 0; b < s.b; ++b)
        scan(m, b, s.t, A.data(), &selected[b * s.t * selected_size], &delta[b * s.t * m.inner], &u[b * s.t * m.inner]);
    for (int64_t r = 0; r < rows; ++r) for (int64_t c = 0; c < m.inner; c += WIDTH<T>) {
        const V<T> z = load(&projected[(2 * r + 1) * m.inner + c], m.inner - c), y = load(&u[r * m.inner + c], m.inner - c);
        store(&u[r * m.inner + c], y * z * sigmoid<T>(z), m.inner - c);
    }
    linear(u.data(), m.inner, rows, m.inner, m.out_weight, m.out_bias, s.d, hidden.data());
    for (int64_t i = 0; i < rows * s.d; ++i) sums[i] += (m.scale ? *m.scale : T(1)) * hidden[i];
}

template <typename T> void extend(const Stack<T>& s) {
    const int64_t rows = s.b * s.t;
    std::vector<T> hidden(rows * s.d), inner(rows * 4 * s.d);
    for (int64_t index = 0; index < s.count; ++index) {
        const Layer<T>& layer = s.layers[index];
        std::fill(hidden.begin(), hidden.end(), T(0));
        for (int64_t i = 0; i < layer.count; ++i) run(layer.branches[i], s, hidden.data());
        for (int64_t i = 0; i < rows * s.d; ++i) s.tokens[i] += hidden[i];
        normalise(s.tokens, rows, s.d, layer.norm_weight, layer.norm_bias, layer.eps, hidden.data());
        linear(hidden.data(), s.d, rows, s.d, layer.first_weight, layer.first_bias, 4 * s.d, inner.data());
        for (T& x : inner) x *= T(0.5) * (T(1) + std::erf(x * T(0.70710678118654752)));
        linear(inner.data(), 4 * s.d, rows, 4 * s.d, layer.second_weight, layer.second_bias, s.d, hidden.data());
        for (int64_t i = 0; i < rows * s.d; ++i) s.tokens[i] += hidden[i];
    }
    normalise(s.tokens, rows, s.d, s.norm_weight, s.norm_bias, s.eps, s.tokens);
}

}  // namespace

extern "C" void extend_float32(const Stack<float>* s) { extend(*s); }
extern "C" void extend_float64(const Stack<double>* s) { extend(*s); }
