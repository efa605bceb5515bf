/* What the processor, and the system that keeps its registers, can do.
 *
 * It is here because this library is the one that is loaded before llama.cpp, and is compiled for
 * any processor. The compiler's own __builtin_cpu_supports knows too few of the names.
 */
#ifndef FM_CPU_H
#define FM_CPU_H

/* Whether a feature of ggml's name, such as "AVX2", can be used: 1 or 0; -1 where it is not known
 * here, as on processors of another kind than the name is for. */
__attribute__((visibility("default"))) int fm_cpu_has(const char *feature);

#endif
