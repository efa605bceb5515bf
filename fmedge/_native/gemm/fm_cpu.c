/* Asks the processor by CPUID. See fm_cpu.h. */
#include "fm_cpu.h"

#include <stddef.h>

#if defined(__x86_64__)

#include <cpuid.h>
#include <stdint.h>
#include <string.h>

enum { EAX, EBX, ECX, EDX };

/* Registers that the system must save and restore, as bits of XCR0. */
enum { NONE = 0, YMM = 0x6, ZMM = 0xe6, TILES = 0x60000 };

static const struct {
    const char *name;
    uint32_t leaf, subleaf, reg, bits, saved;
} features[] = {
    {"SSE3", 1, 0, ECX, 1u << 0, NONE},
    {"SSSE3", 1, 0, ECX, 1u << 9, NONE},
    {"AVX", 1, 0, ECX, 1u << 28, YMM},
    {"FMA", 1, 0, ECX, 1u << 12, YMM},
    {"F16C", 1, 0, ECX, 1u << 29, YMM},
    {"AVX2", 7, 0, EBX, 1u << 5, YMM},
    {"BMI2", 7, 0, EBX, 1u << 8, NONE},
    {"AVX_VNNI", 7, 1, EAX, 1u << 4, YMM},
    /* F, DQ, CD, BW and VL, which ggml's option of this name stands for */
    {"AVX512", 7, 0, EBX, 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31, ZMM},
    {"AVX512_VBMI", 7, 0, ECX, 1u << 1, ZMM},
    {"AVX512_VNNI", 7, 0, ECX, 1u << 11, ZMM},
    {"AVX512_BF16", 7, 1, EAX, 1u << 5, ZMM},
    {"AMX_INT8", 7, 0, EDX, 1u << 24 | 1u << 25, TILES}, /* tiles, and products of bytes on them */
};

static uint32_t saved_registers(void) {
    uint32_t reg[4];
    if (!__get_cpuid(1, &reg[EAX], &reg[EBX], &reg[ECX], &reg[EDX]) || !(reg[ECX] & 1u << 27)) {
        return 0; /* the system saves none by this mechanism */
    }
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

int fm_cpu_has(const char *feature) {
    for (size_t i = 0; i < sizeof features / sizeof *features; i++) {
        if (strcmp(features[i].name, feature) == 0) {
            uint32_t reg[4] = {0};
            return __get_cpuid_count(features[i].leaf, features[i].subleaf, &reg[EAX], &reg[EBX],
                                     &reg[ECX], &reg[EDX]) &&
                   (reg[features[i].reg] & features[i].bits) == features[i].bits &&
                   (saved_registers() & features[i].saved) == features[i].saved;
        }
    }
    return -1;
}

#else

int fm_cpu_has(const char *feature) {
    (void)feature;
    return -1;
}

#endif
