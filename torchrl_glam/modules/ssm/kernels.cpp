// The selective scan and the convolution before it for a CPU, forward and backward; cpp_backend.py compiles and calls them.
//
// b batch, t time, d channels, n size of a channel's state, k length of the convolution. Sequences are [b t d] whose
// last dimension is contiguous; row(b, t) is found by two strides, so that halves of a projection need no copy.
// A vector V holds as many neighbouring channels as fit into 64 bytes. States and decays of one sequence stay in the
// cache: the backward pass computes them again, and nothing of size [b t d n] is ever stored.

#include <thread>
#include <vector>

#include "vectors.h"

namespace {

template <typename T> struct Rows {  // [b t ..] by its strides; null where there is none
    T* at;
    int64_t batch, time;
    T* row(int64_t b, int64_t t) const { return at + b * batch + t * time; }
    explicit operator bool() const { return at != nullptr; }
};

// Runs work(first, last, thread) on shares of the batch.
template <typename F> void share(int64_t batch, int64_t threads, F work) {
    threads = std::max<int64_t>(1, std::min(threads, batch));
    std::vector<std::thread> others;
    for (int64_t i = 1; i < threads; ++i)
        others.emplace_back([=] { work(batch * i / threads, batch * (i + 1) / threads, i); });
    work(0, batch / threads, 0);
    for (auto& other : others) other.join();
}

template <typename T> struct Scan {
    int64_t b, t, d, n, first, softplus, every, threads;  // outputs are those of steps `first` to t
    Rows<const T> u, delta, B, C, gate, valid;
    const T *A, *D, *state;  // A [n d]
    Rows<T> y;
    T *last, *starts;  // last [b/every d n]: of each `every`-th sequence
};

// One step's delta, u and v = delta u of a vector of channels.
template <typename T> struct Step { V<T> delta, u, v; };

template <typename T> inline Step<T> read(const Scan<T>& s, int64_t b, int64_t t, int64_t c, int64_t count) {
    Step<T> step;
    step.delta = load(s.delta.row(b, t) + c, count);
    if (s.softplus) step.delta = softplus(step.delta);
    if (s.valid) step.delta *= *s.valid.row(b, t);
    step.u = load(s.u.row(b, t) + c, count);
    step.v = step.delta * step.u;
    return step;
}

template <typename T> inline void load_columns(V<T>* to, const T* from, int64_t n, int64_t count) {
    for (int64_t j = 0; j < n; ++j) {  // from [d n] rows to vectors over d
        to[j] = V<T>{};
        if (from) for (int64_t i = 0; i < count; ++i) to[j][i] = from[i * n + j];
    }
}

template <typename T> inline void store_columns(T* to, const V<T>* from, int64_t n, int64_t count) {
    const T* columns = reinterpret_cast<const T*>(from);
    for (int64_t i = 0; i < count; ++i) for (int64_t j = 0; j < n; ++j) to[i * n + j] = columns[j * WIDTH<T> + i];
}

// One step's state from the one before it; also its decay, and its output, which it returns.
template <typename T>
inline V<T> advance(const Scan<T>& s, const Step<T>& step, const T* B, const T* C, const V<T>* A, const V<T>* before,
                    V<T>* here, V<T>* decay) {
    V<T> y = {};
    for (int64_t j = 0; j < s.n; ++j) {
        decay[j] = exponential_below_88(step.delta * A[j]);
        here[j] = decay[j] * before[j] + step.v * B[j];
        y += here[j] * C[j];
    }
    return y;
}

// Time runs backward in pieces of PIECE steps, whose states and decays fit into the first cache. The forward pass keeps
// the states from which the second and later pieces start, as vectors [pieces-1 b blocks n].
constexpr int64_t PIECE = 8;

template <typename T> inline int64_t start(const Scan<T>& s, int64_t piece, int64_t b, int64_t c) {
    return (((piece - 1) * s.b + b) * ((s.d + WIDTH<T> - 1) / WIDTH<T>) + c / WIDTH<T>) * s.n * WIDTH<T>;
}

template <typename T> void scan_forward(const Scan<T>& s) {
    share(s.b, s.threads, [&s](int64_t first, int64_t last, int64_t) {
        std::vector<V<T>> h(s.n), A(s.n), decay(s.n);
        for (int64_t b = first; b < last; ++b) for (int64_t c = 0; c < s.d; c += WIDTH<T>) {
            const int64_t count = std::min<int64_t>(WIDTH<T>, s.d - c);
            const V<T> D = s.D ? load(s.D + c, count) : V<T>{};
            for (int64_t j = 0; j < s.n; ++j) A[j] = load(s.A + j * s.d + c, count);
            load_columns(h.data(), s.state ? s.state + (b * s.d + c) * s.n : nullptr, s.n, count);
            for (int64_t t = 0; t < s.t; ++t) {
                const Step<T> step = read(s, b, t, c, count);
                V<T> y = D * step.u + advance(s, step, s.B.row(b, t), s.C.row(b, t), A.data(), h.data(), h.data(), decay.data());
                if (s.starts && t % PIECE == PIECE - 1 && t + 1 < s.t)
                    std::memcpy(s.starts + start(s, t / PIECE + 1, b, c), h.data(), s.n * sizeof(V<T>));
                if (t < s.first) continue;
                if (s.gate) {
                    const V<T> z = load(s.gate.row(b, t - s.first) + c, count);
                    y *= z * sigmoid<T>(z);
                }
                store(s.y.row(b, t - s.first) + c, y, count);
            }
            if (s.last && b % s.every == s.every - 1)
                store_columns(s.last + (b / s.every * s.d + c) * s.n, h.data(), s.n, count);
        }
    });
}

template <typename T> struct ScanGradients {
    Rows<const T> y;
    const T *last, *starts;
    Rows<T> u, delta, B, C, gate;
    T *A, *D, *state;  // A [threads n d], D [threads d], added up by the caller
};

template <typename T> void scan_backward(const Scan<T>& s, const ScanGradients<T>& d) {
    share(s.b, s.threads, [&](int64_t first, int64_t last, int64_t thread) {
        const int64_t n = s.n, blocks = (s.d + WIDTH<T> - 1) / WIDTH<T>, pieces = (s.t + PIECE - 1) / PIECE;
        std::vector<V<T>> A(blocks * n), D(blocks), dA(blocks * n), dD(blocks), g(blocks * n);
        std::vector<V<T>> h((PIECE + 1) * n), decay(PIECE * n), dB(PIECE * n), dC(PIECE * n), dy(PIECE);
        std::vector<Step<T>> steps(PIECE);
        for (int64_t k = 0; k < blocks; ++k) {
            const int64_t c = k * WIDTH<T>, count = std::min<int64_t>(WIDTH<T>, s.d - c);
            D[k] = s.D ? load(s.D + c, count) : V<T>{};
            for (int64_t j = 0; j < n; ++j) A[k * n + j] = load(s.A + j * s.d + c, count);
        }
        for (int64_t b = first; b < last; ++b) {
            for (int64_t k = 0; k < blocks; ++k) {
                const int64_t c = k * WIDTH<T>, count = std::min<int64_t>(WIDTH<T>, s.d - c);
                const bool wanted = d.last && b % s.every == s.every - 1;
                load_columns(&g[k * n], wanted ? d.last + (b / s.every * s.d + c) * n : nullptr, n, count);
            }
            for (int64_t piece = pieces - 1; piece >= 0; --piece) {
                const int64_t from = piece * PIECE, length = std::min(PIECE, s.t - from);
                std::fill(dB.begin(), dB.end(), V<T>{});
                std::fill(dC.begin(), dC.end(), V<T>{});
                for (int64_t k = 0; k < blocks; ++k) {
                    const int64_t c = k * WIDTH<T>, count = std::min<int64_t>(WIDTH<T>, s.d - c);
                    if (piece) std::memcpy(h.data(), d.starts + start(s, piece, b, c), n * sizeof(V<T>));
                    else load_columns(h.data(), s.state ? s.state + (b * s.d + c) * n : nullptr, n, count);
                    for (int64_t i = 0; i < length; ++i) {  // the forward pass again
                        const int64_t t = from + i;
                        const Step<T> step = steps[i] = read(s, b, t, c, count);
                        const V<T> y = D[k] * step.u + advance(s, step, s.B.row(b, t), s.C.row(b, t), &A[k * n], &h[i * n],
                                                               &h[(i + 1) * n], &decay[i * n]);
                        dy[i] = t < s.first || !d.y ? V<T>{} : load(d.y.row(b, t - s.first) + c, count);
                        if (!s.gate || t < s.first) continue;
                        const V<T> z = load(s.gate.row(b, t - s.first) + c, count), open = sigmoid<T>(z);
                        store(d.gate.row(b, t - s.first) + c, dy[i] * y * open * (T(1) + z * (T(1) - open)), count);
                        dy[i] *= z * open;
                    }
                    for (int64_t i = length - 1; i >= 0; --i) {
                        const int64_t t = from + i;
                        const Step<T> step = steps[i];
                        const V<T> dyt = dy[i];
                        const T *B = s.B.row(b, t), *C = s.C.row(b, t);
                        V<T> dv = {}, ddelta = {};
                        for (int64_t j = 0; j < n; ++j) {
                            const V<T> gradient = g[k * n + j] + dyt * C[j];  // of h_t
                            const V<T> earlier = gradient * decay[i * n + j], q = earlier * h[i * n + j];
                            g[k * n + j] = earlier;
                            dC[i * n + j] += h[(i + 1) * n + j] * dyt;
                            dB[i * n + j] += gradient * step.v;
                            dA[k * n + j] += q * step.delta;
                            dv += gradient * B[j];
                            ddelta += q * A[k * n + j];
                        }
                        ddelta += dv * step.u;
                        if (s.valid) ddelta *= *s.valid.row(b, t);
                        if (s.softplus) ddelta *= sigmoid<T>(load(s.delta.row(b, t) + c, count));
                        store(d.delta.row(b, t) + c, ddelta, count);
                        store(d.u.row(b, t) + c, dv * step.delta + dyt * D[k], count);
                        dD[k] += dyt * step.u;
                    }
                }
                for (int64_t i = 0; i < length; ++i) for (int64_t j = 0; j < n; ++j) {
                    d.B.row(b, from + i)[j] = sum<T>(dB[i * n + j]);
                    d.C.row(b, from + i)[j] = sum<T>(dC[i * n + j]);
                }
            }
            if (d.state) for (int64_t k = 0; k < blocks; ++k) {
                const int64_t c = k * WIDTH<T>;
                store_columns(d.state + (b * s.d + c) * n, &g[k * n], n, std::min<int64_t>(WIDTH<T>, s.d - c));
            }
        }
        for (int64_t k = 0; k < blocks; ++k) {
            const int64_t c = k * WIDTH<T>, count = std::min<int64_t>(WIDTH<T>, s.d - c);
            for (int64_t j = 0; j < n; ++j) store(d.A + (thread * n + j) * s.d + c, dA[k * n + j], count);
            store(d.D + thread * s.d + c, dD[k], count);
        }
    });
}

template <typename T> struct Convolution {
    int64_t b, t, d, k, threads;
    Rows<const T> x, before, valid;  // before: [b k-1 d], the inputs before the first
    const T *weight, *bias;  // weight [k d]
    Rows<T> y;
};

template <typename T> inline V<T> input(const Convolution<T>& s, int64_t b, int64_t t, int64_t c, int64_t count) {
    if (t < 0) return s.before ? load(s.before.row(b, t + s.k - 1) + c, count) : V<T>{};
    const V<T> x = load(s.x.row(b, t) + c, count);
    return s.valid ? x * *s.valid.row(b, t) : x;
}

template <typename T> inline V<T> convolve(const Convolution<T>& s, int64_t b, int64_t t, int64_t c, int64_t count) {
    V<T> p = s.bias ? load(s.bias + c, count) : V<T>{};
    for (int64_t j = 0; j < s.k; ++j) p += input(s, b, t - s.k + 1 + j, c, count) * load(s.weight + j * s.d + c, count);
    return p;
}

template <typename T> void convolution_forward(const Convolution<T>& s) {
    share(s.b, s.threads, [&s](int64_t first, int64_t last, int64_t) {
        for (int64_t b = first; b < last; ++b) for (int64_t c = 0; c < s.d; c += WIDTH<T>) {
            const int64_t count = std::min<int64_t>(WIDTH<T>, s.d - c);
            for (int64_t t = 0; t < s.t; ++t) {
                const V<T> p = convolve(s, b, t, c, count);
                store(s.y.row(b, t) + c, p * sigmoid<T>(p), count);
            }
        }
    });
}

template <typename T> struct ConvolutionGradients {
    Rows<const T> y;
    Rows<T> x, before;
    T *weight, *bias;  // [threads k d], [threads d]
};

template <typename T> void convolution_backward(const Convolution<T>& s, const ConvolutionGradients<T>& d) {
    share(s.b, s.threads, [&](int64_t first, int64_t last, int64_t thread) {
        std::vector<V<T>> dp(s.t + s.k - 1), dweight(s.k);  // zeros follow the last step
        T *all_weight = d.weight + thread * s.k * s.d, *all_bias = d.bias + thread * s.d;
        for (int64_t b = first; b < last; ++b) for (int64_t c = 0; c < s.d; c += WIDTH<T>) {
            const int64_t count = std::min<int64_t>(WIDTH<T>, s.d - c);
            V<T> dbias = load(all_bias + c, count);
            for (int64_t j = 0; j < s.k; ++j) dweight[j] = load(all_weight + j * s.d + c, count);
            for (int64_t t = 0; t < s.t; ++t) {
                const V<T> p = convolve(s, b, t, c, count), open = sigmoid<T>(p);
                dp[t] = load(d.y.row(b, t) + c, count) * open * (T(1) + p * (T(1) - open));
                dbias += dp[t];
                for (int64_t j = 0; j < s.k; ++j) dweight[j] += dp[t] * input(s, b, t - s.k + 1 + j, c, count);
            }
            for (int64_t t = d.before ? 1 - s.k : 0; t < s.t; ++t) {
                V<T> dx = {};
                for (int64_t j = 0; j < s.k; ++j) {
                    const int64_t later = t + s.k - 1 - j;
                    if (later >= 0) dx += dp[later] * load(s.weight + j * s.d + c, count);
                }
                if (t >= 0 && s.valid) dx *= *s.valid.row(b, t);
                store((t < 0 ? d.before.row(b, t + s.k - 1) : d.x.row(b, t)) + c, dx, count);
            }
            for (int64_t j = 0; j < s.k; ++j) store(all_weight + j * s.d + c, dweight[j], count);
            store(all_bias + c, dbias, count);
        }
    });
}

}  // namespace

#define EXPORT(T, name)                                                                                              \
    extern "C" void scan_forward_##name(const Scan<T>* s) { scan_forward(*s); }                                      \
    extern "C" void scan_backward_##name(const Scan<T>* s, const ScanGradients<T>* d) { scan_backward(*s, *d); }     \
    extern "C" void convolution_forward_##name(const Convolution<T>* s) { convolution_forward(*s); }                 \
    extern "C" void convolution_backward_##name(const Convolution<T>* s, const ConvolutionGradients<T>* d) {         \
        convolution_backward(*s, *d);                                                                                \
    }
EXPORT(float, float32)
EXPORT(double, float64)
