// Convolution of signs by exclusive or and bit counts, with everything of a block that follows it in the same pass.
//
// Maps are float32 [H][W][C]. A sign is one bit, 1 being +1; the C bits of a pixel fill W64 = ceil(C / 64) words, the
// rest of the last one being 0 in maps and weights alike. Taps outside of the image are left out. Sums are whole
// numbers; what follows is rounded operation by operation (compile without contraction), as PyTorch does it.

#include <stdint.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define HAS_AVX512 1
#endif

#if defined(_WIN32)
#define API __declspec(dllexport)
#else
#define API
#endif

typedef struct {
    const uint64_t *bits;    // [H][W][W64]
    const uint64_t *weights; // [9][W64][outputs]
    const float *factor, *offset, *slope, *after; // [outputs]
    const float *skip;       // [h][w][outputs]
    float *out;              // [h][w][outputs]
    int64_t height, width, words, inputs, outputs, stride;
} Block;

// bits = [maps + shift >= 0]
API void pack(const float *maps, const float *shift, uint64_t *bits, int64_t pixels, int64_t channels) {
    const int64_t words = (channels + 63) / 64;
#pragma omp parallel for
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t word = 0; word < words; word++) {
            const int64_t first = 64 * word, count = channels - first < 64 ? channels - first : 64;
            const float *values = maps + p * channels + first;
            uint64_t found = 0;
            for (int64_t c = 0; c < count; c++) found |= (uint64_t)(values[c] + shift[first + c] >= 0.0f) << c;
            bits[p * words + word] = found;
        }
}

#ifdef HAS_AVX512
#define WIDE __attribute__((target("avx512f,avx512vl,avx512dq,avx512vpopcntdq")))

WIDE static void pack_wide(const float *maps, const float *shift, uint64_t *bits, int64_t pixels, int64_t channels) {
    const int64_t words = (channels + 63) / 64;
#pragma omp parallel for
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t word = 0; word < words; word++) {
            uint64_t found = 0;
            for (int64_t c = 64 * word; c < channels && c < 64 * (word + 1); c += 16) {
                __m512 value = _mm512_add_ps(_mm512_loadu_ps(maps + p * channels + c), _mm512_loadu_ps(shift + c));
                found |= (uint64_t)_mm512_cmp_ps_mask(value, _mm512_setzero_ps(), _CMP_GE_OQ) << (c & 63);
            }
            bits[p * words + word] = found;
        }
}

// 32 outputs of up to 4 neighbors in a row, whose taps are all inside or, for one pixel, those of `mask`.
#define TILE(PIXELS)                                                                                                   \
    WIDE static inline void tile_##PIXELS(const Block *b, int64_t i, int64_t j, int64_t o, unsigned mask) {            \
        __m512i count[PIXELS][4];                                                                                      \
        for (int p = 0; p < PIXELS; p++)                                                                               \
            for (int q = 0; q < 4; q++) count[p][q] = _mm512_setzero_si512();                                          \
        int taps = 0;                                                                                                  \
        for (int k = 0; k < 9; k++) {                                                                                  \
            if (!(mask >> k & 1)) continue;                                                                            \
            taps++;                                                                                                    \
            const int64_t row = i * b->stride + k / 3 - 1, column = j * b->stride + k % 3 - 1;                         \
            const uint64_t *seen = b->bits + (row * b->width + column) * b->words;                                     \
            const uint64_t *weights = b->weights + k * b->words * b->outputs + o;                                      \
            for (int64_t c = 0; c < b->words; c++, weights += b->outputs) {                                            \
                const __m512i w0 = _mm512_loadu_si512(weights), w1 = _mm512_loadu_si512(weights + 8);                  \
                const __m512i w2 = _mm512_loadu_si512(weights + 16), w3 = _mm512_loadu_si512(weights + 24);            \
                for (int p = 0; p < PIXELS; p++) {                                                                     \
                    const __m512i v = _mm512_set1_epi64((long long)seen[p * b->stride * b->words + c]);                \
                    count[p][0] = _mm512_add_epi64(count[p][0], _mm512_popcnt_epi64(_mm512_xor_si512(v, w0)));         \
                    count[p][1] = _mm512_add_epi64(count[p][1], _mm512_popcnt_epi64(_mm512_xor_si512(v, w1)));         \
                    count[p][2] = _mm512_add_epi64(count[p][2], _mm512_popcnt_epi64(_mm512_xor_si512(v, w2)));         \
                    count[p][3] = _mm512_add_epi64(count[p][3], _mm512_popcnt_epi64(_mm512_xor_si512(v, w3)));         \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
        const int64_t columns = (b->width - 1) / b->stride + 1;                                                        \
        const __m256i all = _mm256_set1_epi32((int)(taps * b->inputs));                                                \
        for (int p = 0; p < PIXELS; p++) {                                                                             \
            const int64_t at = (i * columns + j + p) * b->outputs + o;                                                 \
            for (int q = 0; q < 4; q++) {                                                                              \
                const __m256i differ = _mm512_cvtepi64_epi32(count[p][q]);                                             \
                const __m256i sum = _mm256_sub_epi32(all, _mm256_slli_epi32(differ, 1));                               \
                const int64_t e = o + 8 * q;                                                                           \
                __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_loadu_ps(b->factor + e));                     \
                v = _mm256_add_ps(v, _mm256_loadu_ps(b->offset + e));                                                  \
                v = _mm256_add_ps(v, _mm256_loadu_ps(b->skip + at + 8 * q));                                           \
                const __m256 low = _mm256_mul_ps(v, _mm256_loadu_ps(b->slope + e));                                    \
                v = _mm256_blendv_ps(low, v, _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_GT_OQ));                       \
                _mm256_storeu_ps(b->out + at + 8 * q, _mm256_add_ps(v, _mm256_loadu_ps(b->after + e)));                \
            }                                                                                                          \
        }                                                                                                              \
    }
TILE(1)
TILE(4)
#endif

// The taps of a pixel that lie inside of the image, one bit each.
static unsigned inside(const Block *b, int64_t i, int64_t j) {
    unsigned mask = 0;
    for (int k = 0; k < 9; k++) {
        const int64_t row = i * b->stride + k / 3 - 1, column = j * b->stride + k % 3 - 1;
        if (row >= 0 && row < b->height && column >= 0 && column < b->width) mask |= 1u << k;
    }
    return mask;
}

static void pixel(const Block *b, int64_t i, int64_t j, unsigned mask) {
    const int64_t columns = (b->width - 1) / b->stride + 1, at = (i * columns + j) * b->outputs;
    for (int64_t o = 0; o < b->outputs; o++) {
        int64_t differ = 0, taps = 0;
        for (int k = 0; k < 9; k++) {
            if (!(mask >> k & 1)) continue;
            taps++;
            const int64_t row = i * b->stride + k / 3 - 1, column = j * b->stride + k % 3 - 1;
            const uint64_t *seen = b->bits + (row * b->width + column) * b->words;
            const uint64_t *weights = b->weights + k * b->words * b->outputs + o;
            for (int64_t c = 0; c < b->words; c++) {
                uint64_t v = seen[c] ^ weights[c * b->outputs];
                v -= v >> 1 & 0x5555555555555555u;
                v = (v & 0x3333333333333333u) + (v >> 2 & 0x3333333333333333u);
                differ += (int64_t)(((v + (v >> 4)) & 0x0f0f0f0f0f0f0f0fu) * 0x0101010101010101u >> 56);
            }
        }
        float v = (float)(taps * b->inputs - 2 * differ) * b->factor[o];
        v = v + b->offset[o];
        v = v + b->skip[at + o];
        v = v > 0.0f ? v : v * b->slope[o];
        b->out[at + o] = v + b->after[o];
    }
}

// Whether there are instructions that make this worth while.
API int is_fast(void) {
#ifdef HAS_AVX512
    return __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq");
#else
    return 0;
#endif
}

// out = prelu(factor * sums + offset + skip, slope) + after
API void block(const float *maps, const float *shift, uint64_t *bits, const uint64_t *weights, const float *factor,
               const float *offset, const float *slope, const float *after, const float *skip, float *out,
               int64_t height, int64_t width, int64_t inputs, int64_t outputs, int64_t stride, int wide) {
    const Block b = {bits, weights, factor, offset, slope, after, skip, out, height, width, (inputs + 63) / 64,
                     inputs, outputs, stride};
    const int64_t rows = (height - 1) / stride + 1, columns = (width - 1) / stride + 1;
#ifdef HAS_AVX512
    if (wide && inputs % 16 == 0 && outputs % 32 == 0) {
        pack_wide(maps, shift, bits, height * width, inputs);
#pragma omp parallel for
        for (int64_t i = 0; i < rows; i++)
            for (int64_t o = 0; o < outputs; o += 32)
                for (int64_t j = 0; j < columns;) {
                    const unsigned mask = inside(&b, i, j);
                    if (mask == 0x1ff && j + 4 <= columns && inside(&b, i, j + 3) == 0x1ff) {
                        tile_4(&b, i, j, o, mask);
                        j += 4;
                    } else {
                        tile_1(&b, i, j, o, mask);
                        j += 1;
                    }
                }
        return;
    }
#endif
    (void)wide;
    pack(maps, shift, bits, height * width, inputs);
#pragma omp parallel for
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) pixel(&b, i, j, inside(&b, i, j));
}
