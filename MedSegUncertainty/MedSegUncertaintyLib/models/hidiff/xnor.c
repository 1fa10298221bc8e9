// Convolution of signs by exclusive or and bit counts, with everything of a block that follows it in the same pass.
//
// Maps are float32 [H][W][C]. A sign is one bit, 1 being +1; the C bits of a pixel fill W64 = ceil(C / 64) words, the
// rest of the last one being 0 in maps and weights alike. Taps outside of the image are left out. Sums are whole
// numbers; what follows is rounded operation by operation (compile without contraction), as PyTorch does it.

#include <stdint.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define X86 1
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

// The taps of a pixel that lie inside of the image, one bit each.
static unsigned inside(const Block *b, int64_t i, int64_t j) {
    const unsigned above = i > 0 ? 0007 : 0, below = i * b->stride + 1 < b->height ? 0700 : 0;
    const unsigned left = j > 0 ? 0111 : 0, right = j * b->stride + 1 < b->width ? 0444 : 0;
    return (above | 0070 | below) & (left | 0222 | right);
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

#ifdef X86
#define AVX2 __attribute__((target("avx2"))) static inline
#define AVX512 __attribute__((target("avx512f,avx512vpopcntdq"))) static inline
#define UNROLLED __attribute__((always_inline))

AVX2 void pack_avx2(const float *maps, const float *shift, uint64_t *bits, int64_t pixels, int64_t channels) {
    const int64_t words = (channels + 63) / 64;
#pragma omp parallel for
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t word = 0; word < words; word++) {
            uint64_t found = 0;
            for (int64_t c = 64 * word; c < channels && c < 64 * (word + 1); c += 8) {
                __m256 value = _mm256_add_ps(_mm256_loadu_ps(maps + p * channels + c), _mm256_loadu_ps(shift + c));
                value = _mm256_cmp_ps(value, _mm256_setzero_ps(), _CMP_GE_OQ);
                found |= (uint64_t)_mm256_movemask_ps(value) << (c & 63);
            }
            bits[p * words + word] = found;
        }
}

// What follows the count, for 8 outputs from the o-th of the pixel that begins at `at`.
AVX2 void finish(const Block *b, int64_t at, int64_t o, unsigned mask, __m256i differ) {
    const __m256i all = _mm256_set1_epi32((int)(__builtin_popcount(mask) * b->inputs));
    const __m256i sum = _mm256_sub_epi32(all, _mm256_slli_epi32(differ, 1));
    __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_loadu_ps(b->factor + o));
    v = _mm256_add_ps(v, _mm256_loadu_ps(b->offset + o));
    v = _mm256_add_ps(v, _mm256_loadu_ps(b->skip + at + o));
    const __m256 low = _mm256_mul_ps(v, _mm256_loadu_ps(b->slope + o));
    v = _mm256_blendv_ps(low, v, _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_GT_OQ));
    _mm256_storeu_ps(b->out + at + o, _mm256_add_ps(v, _mm256_loadu_ps(b->after + o)));
}

// Tiles: outputs of 1 or more neighbors in a row, whose taps are all inside or, for one pixel, those of `mask`.

AVX2 __m256i add_counts(__m256i bytes, __m256i v) {
    const __m256i low = _mm256_set1_epi8(15);
    const __m256i ones = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    bytes = _mm256_add_epi8(bytes, _mm256_shuffle_epi8(ones, _mm256_and_si256(v, low)));
    return _mm256_add_epi8(bytes, _mm256_shuffle_epi8(ones, _mm256_and_si256(_mm256_srli_epi16(v, 4), low)));
}

AVX2 UNROLLED void tile_avx2(const Block *b, int64_t i, int64_t j, int64_t o, unsigned mask, const int pixels) {
    __m256i count[2][4];
    for (int p = 0; p < pixels; p++)
        for (int q = 0; q < 4; q++) count[p][q] = _mm256_setzero_si256();
    // A byte counts up to 255, and 9 taps of 3 words have 216 bits for it.
    for (int64_t first = 0; first < b->words; first += 3) {
        const int64_t end = b->words - first < 3 ? b->words : first + 3;
        __m256i bytes[2][4];
        for (int p = 0; p < pixels; p++)
            for (int q = 0; q < 4; q++) bytes[p][q] = _mm256_setzero_si256();
        for (int k = 0; k < 9; k++) {
            if (!(mask >> k & 1)) continue;
            const int64_t row = i * b->stride + k / 3 - 1, column = j * b->stride + k % 3 - 1;
            const uint64_t *seen = b->bits + (row * b->width + column) * b->words;
            const uint64_t *weights = b->weights + (k * b->words + first) * b->outputs + o;
            for (int64_t c = first; c < end; c++, weights += b->outputs)
                for (int p = 0; p < pixels; p++) {
                    const __m256i v = _mm256_set1_epi64x((long long)seen[p * b->stride * b->words + c]);
                    for (int q = 0; q < 4; q++) {
                        const __m256i w = _mm256_loadu_si256((const __m256i *)(weights + 4 * q));
                        bytes[p][q] = add_counts(bytes[p][q], _mm256_xor_si256(v, w));
                    }
                }
        }
        for (int p = 0; p < pixels; p++)
            for (int q = 0; q < 4; q++) {
                const __m256i sums = _mm256_sad_epu8(bytes[p][q], _mm256_setzero_si256());
                count[p][q] = _mm256_add_epi64(count[p][q], sums);
            }
    }
    const int64_t columns = (b->width - 1) / b->stride + 1;
    for (int p = 0; p < pixels; p++)
        for (int q = 0; q < 4; q += 2) {
            const __m256i mixed = _mm256_or_si256(count[p][q], _mm256_slli_epi64(count[p][q + 1], 32));
            const __m256i order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
            finish(b, (i * columns + j + p) * b->outputs, o + 4 * q, mask, _mm256_permutevar8x32_epi32(mixed, order));
        }
}

AVX512 UNROLLED void tile_avx512(const Block *b, int64_t i, int64_t j, int64_t o, unsigned mask, const int pixels) {
    __m512i count[4][4];
    for (int p = 0; p < pixels; p++)
        for (int q = 0; q < 4; q++) count[p][q] = _mm512_setzero_si512();
    for (int k = 0; k < 9; k++) {
        if (!(mask >> k & 1)) continue;
        const int64_t row = i * b->stride + k / 3 - 1, column = j * b->stride + k % 3 - 1;
        const uint64_t *seen = b->bits + (row * b->width + column) * b->words;
        const uint64_t *weights = b->weights + k * b->words * b->outputs + o;
        for (int64_t c = 0; c < b->words; c++, weights += b->outputs)
            for (int p = 0; p < pixels; p++) {
                const __m512i v = _mm512_set1_epi64((long long)seen[p * b->stride * b->words + c]);
                for (int q = 0; q < 4; q++) {
                    const __m512i differ = _mm512_xor_si512(v, _mm512_loadu_si512(weights + 8 * q));
                    count[p][q] = _mm512_add_epi64(count[p][q], _mm512_popcnt_epi64(differ));
                }
            }
    }
    const int64_t columns = (b->width - 1) / b->stride + 1;
    for (int p = 0; p < pixels; p++)
        for (int q = 0; q < 4; q++)
            finish(b, (i * columns + j + p) * b->outputs, o + 8 * q, mask, _mm512_cvtepi64_epi32(count[p][q]));
}

AVX2 void rows_avx2(const Block *b, int64_t i, int64_t columns) {
    for (int64_t o = 0; o < b->outputs; o += 16)
        for (int64_t j = 0; j < columns;) {
            const unsigned mask = inside(b, i, j);
            if (mask == 0777 && j + 2 <= columns && inside(b, i, j + 1) == 0777) {
                tile_avx2(b, i, j, o, mask, 2);
                j += 2;
            } else
                tile_avx2(b, i, j++, o, mask, 1);
        }
}

AVX512 void rows_avx512(const Block *b, int64_t i, int64_t columns) {
    for (int64_t o = 0; o < b->outputs; o += 32)
        for (int64_t j = 0; j < columns;) {
            const unsigned mask = inside(b, i, j);
            if (mask == 0777 && j + 4 <= columns && inside(b, i, j + 3) == 0777) {
                tile_avx512(b, i, j, o, mask, 4);
                j += 4;
            } else
                tile_avx512(b, i, j++, o, mask, 1);
        }
}
#endif

// The instructions that make this worth while: 0 none, 1 AVX2, 2 AVX-512 VPOPCNTDQ as well.
API int level(void) {
#ifdef X86
    return __builtin_cpu_supports("avx512vpopcntdq") ? 2 : __builtin_cpu_supports("avx2") ? 1 : 0;
#else
    return 0;
#endif
}

// out = prelu(factor * sums + offset + skip, slope) + after, by the instructions of a level up to level()
API void block(const float *maps, const float *shift, uint64_t *bits, const uint64_t *weights, const float *factor,
               const float *offset, const float *slope, const float *after, const float *skip, float *out,
               int64_t height, int64_t width, int64_t inputs, int64_t outputs, int64_t stride, int by) {
    const Block b = {bits, weights, factor, offset, slope, after, skip, out, height, width, (inputs + 63) / 64,
                     inputs, outputs, stride};
    const int64_t rows = (height - 1) / stride + 1, columns = (width - 1) / stride + 1;
#ifdef X86
    if (by && inputs % 16 == 0 && outputs % 32 == 0) {
        pack_avx2(maps, shift, bits, height * width, inputs);
#pragma omp parallel for
        for (int64_t i = 0; i < rows; i++) (by == 2 ? rows_avx512 : rows_avx2)(&b, i, columns);
        return;
    }
#endif
    (void)by;
    pack(maps, shift, bits, height * width, inputs);
#pragma omp parallel for
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) pixel(&b, i, j, inside(&b, i, j));
}
