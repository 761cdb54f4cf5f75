#include <immintrin.h>
#include <stdint.h>
#define ALL(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define DEF(i) __m512 a##i = _mm512_set1_ps(i);
#define DP(i) a##i = _mm512_dpbf16_ps(a##i, x, x);
#define FM(i) a##i = _mm512_fmadd_ps(a##i, y, y);
#define SUM(i) s = _mm512_add_ps(s, a##i);
double oas_bench_peak_avx512bf16(int64_t rounds){ ALL(DEF) __m512bh x=(__m512bh)_mm512_set1_epi32(0x3f803f80); __m512 s=_mm512_setzero_ps();
 for(int64_t r=0;r<rounds;r++){ ALL(DP) __asm__ volatile("");} ALL(SUM) return _mm512_reduce_add_ps(s);}
double oas_bench_peak_avx512(int64_t rounds){ ALL(DEF) __m512 y=_mm512_set1_ps(1.0001f); __m512 s=_mm512_setzero_ps();
 for(int64_t r=0;r<rounds;r++){ ALL(FM) __asm__ volatile("");} ALL(SUM) return _mm512_reduce_add_ps(s);}
