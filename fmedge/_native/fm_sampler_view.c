/* A row of logits seen block by block.
 *
 * The rule: a block that nothing changes is read where the model left it; any other is put together
 * in the view's one-block room, the same each time it is asked for. So edits and masks cost no copy
 * of the row, and a second look at a block sees what the first saw. */
#include "fm_sampler_internal.h"

#include <string.h>

static int32_t padded(int32_t n) {
    return (n + FM_LANES_LOGICAL - 1) / FM_LANES_LOGICAL * FM_LANES_LOGICAL;
}

void fm_view_init(fm_view *v, const fm_kernels *kernels, const float *logits, int32_t num_vocab) {
    v->kernels = kernels;
    v->logits = logits;
    v->mask = NULL;
    v->edits = NULL;
    v->num_vocab = num_vocab;
    v->num_edits = 0;
    v->next_edit = 0;
    v->clamp = false;
    v->max = -INFINITY;
    v->block_size = FM_MIN_BLOCK;
    while ((num_vocab - 1) / v->block_size >= FM_MAX_BLOCKS) {
        v->block_size *= 2;
    }
    v->num_blocks = (num_vocab - 1) / v->block_size + 1;
}

/* Index of the first edit at or after token; blocks mostly come in ascending order. */
static int32_t first_edit(const fm_view *v, int32_t token) {
    int32_t low = 0, high = v->num_edits;
    const int32_t hint = v->next_edit;
    if (hint == 0 || v->edits[hint - 1].token < token) {
        if (hint == high || v->edits[hint].token >= token) {
            return hint;
        }
        low = hint;
    } else {
        high = hint;
    }
    while (low < high) {
        const int32_t middle = low + (high - low) / 2;
        if (v->edits[middle].token < token) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

enum { MASK_NONE, MASK_SOME, MASK_ALL };

/* What of `num` tokens from `first` (a multiple of 32) on is allowed. */
static int mask_state(const uint32_t *mask, int32_t first, int32_t num) {
    const uint32_t *words = mask + first / 32;
    uint32_t any = 0, every = 0xffffffffu;
    for (int32_t i = 0; i < num / 32; i++) {
        any |= words[i];
        every &= words[i];
    }
    if (num % 32 != 0) {
        const uint32_t used = (1u << (num % 32)) - 1;
        any |= words[num / 32] & used;
        every &= words[num / 32] | ~used;
    }
    if (any == 0) {
        return MASK_NONE;
    }
    return every == 0xffffffffu ? MASK_ALL : MASK_SOME;
}

const float *fm_view_block(fm_view *v, int32_t block, int32_t *n) {
    const int32_t first = block * v->block_size;
    const int32_t rest = v->num_vocab - first;
    const int32_t num = rest < v->block_size ? rest : v->block_size;
    const float *source = v->logits + first;
    *n = padded(num);
    const int allowed = v->mask == NULL ? MASK_ALL : mask_state(v->mask, first, num);
    if (allowed == MASK_NONE) {
        return NULL;
    }
    int32_t edit = v->num_edits == 0 ? 0 : first_edit(v, first);
    const bool edited = edit < v->num_edits && v->edits[edit].token < first + num;
    if (allowed == MASK_ALL && !edited && !v->clamp && *n == num) {
        return source;
    }

    memcpy(v->room, source, (size_t)num * sizeof *source);
    for (int32_t i = num; i < *n; i++) {
        v->room[i] = -INFINITY;
    }
    for (; edit < v->num_edits && v->edits[edit].token < first + num; edit++) {
        v->room[v->edits[edit].token - first] = v->edits[edit].logit;
    }
    v->next_edit = edit;
    if (v->clamp) {
        for (int32_t i = 0; i < num; i++) {
            if (v->room[i] > FLT_MAX) {
                v->room[i] = FLT_MAX;
            }
        }
    }
    if (allowed == MASK_SOME) {
        v->kernels->mask(v->room, *n, v->mask + first / 32, v->room);
    }
    return v->room;
}

void fm_view_scan(fm_view *v, float scale) {
    float best = -INFINITY;
    for (int32_t block = 0; block < v->num_blocks; block++) {
        int32_t n;
        const float *x = fm_view_block(v, block, &n);
        float sum = 0.0f;
        float max = -INFINITY;
        if (x != NULL) {
            max = scale > 0.0f ? v->kernels->max_sum(x, n, scale, &sum) : v->kernels->max(x, n);
        }
        v->block_max[block] = max;
        v->block_sum[block] = sum;
        best = max > best ? max : best;
    }
    v->max = best;
    for (int32_t block = v->num_blocks; block % FM_BLOCK_GROUP != 0; block++) {
        v->block_max[block] = -INFINITY;
    }
    if (best > FLT_MAX && !v->clamp) {
        v->clamp = true;
        fm_view_scan(v, scale);
    }
}

double fm_view_total(const fm_view *v, float scale, float *weights) {
    float room[FM_MAX_BLOCKS];
    float *weight = weights != NULL ? weights : room;
    v->kernels->weigh(v->block_max, padded(v->num_blocks), -FLT_MAX, v->max, scale, weight);
    double total = 0.0;
    for (int32_t block = 0; block < v->num_blocks; block++) {
        total += (double)weight[block] * v->block_sum[block];
    }
    return total;
}
