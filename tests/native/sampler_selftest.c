/* The sampler without Python: for sanitisers, for other architectures, and for its insides.
 *
 *     cc -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -Ifmedge/_native \
 *        tests/native/sampler_selftest.c fmedge/_native/fm_sampler*.c fmedge/_native/fm_error.c \
 *        -lm -o selftest && ./selftest
 *
 * The rule: rows and masks are allocated to their exact size, so that a read past them is seen, and
 * logits are sums of powers of two, so that they are the same everywhere. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fm_sampler.h"
#include "fm_sampler_internal.h"

#define CHECK(condition)                                                                  \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                      \
        }                                                                                 \
    } while (0)

static uint64_t random_state = 1;

static uint32_t next_random(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33);
}

/* Roughly normal, a multiple of step, within +-16. */
static float *new_row(int32_t num_vocab, float step) {
    float *row = malloc((size_t)num_vocab * sizeof *row);
    CHECK(row != NULL);
    for (int32_t i = 0; i < num_vocab; i++) {
        int32_t sum = 0;
        for (int j = 0; j < 8; j++) {
            sum += (int32_t)(next_random() & 0xfff) - 0x800;
        }
        row[i] = floorf((float)sum / 1024.0f / step) * step;
    }
    return row;
}

static uint32_t *new_mask(int32_t num_vocab) {
    const int32_t num_words = (num_vocab + 31) / 32;
    uint32_t *mask = malloc((size_t)num_words * sizeof *mask);
    CHECK(mask != NULL);
    for (int32_t i = 0; i < num_words; i++) {
        const uint32_t kind = next_random() % 4;
        mask[i] = kind == 0 ? 0 : kind == 1 ? 0xffffffffu : next_random() ^ next_random() << 9;
    }
    mask[0] |= 1;
    return mask;
}

static const fm_sampler_params neutral = {
    .temperature = 1.0f,
    .top_p = 1.0f,
    .repeat_penalty = 1.0f,
    .penalty_last_n = 64,
    .top_logprobs = -1,
};

static fm_sampler *new_sampler(fm_sampler_params params, int32_t num_vocab) {
    fm_sampler *s;
    CHECK(fm_sampler_new(&params, num_vocab, NULL, NULL, 0, NULL, 0, 0, &s) == FM_OK);
    return s;
}

static int by_key(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* fm_select_search and fm_select_gather against a sorted list of the whole row. */
static void test_selection(int32_t variant, int32_t num_vocab, float step) {
    float *row = new_row(num_vocab, step);
    uint64_t *all = malloc((size_t)num_vocab * sizeof *all);
    fm_scratch *sc = malloc(sizeof *sc);
    CHECK(all != NULL && sc != NULL);
    fm_view *v = &sc->view;
    fm_view_init(v, fm_kernels_get(variant), row, num_vocab);
    fm_view_scan(v, FM_LOG2E);
    double total = 0.0;
    for (int32_t i = 0; i < num_vocab; i++) {
        all[i] = fm_key(row[i], i);
        total += (double)fm_weight(row[i], v->max, FM_LOG2E);
    }
    qsort(all, (size_t)num_vocab, sizeof *all, by_key);
    CHECK(v->max == fm_key_logit(all[0]));
    CHECK(fabs(fm_view_total(v, FM_LOG2E, NULL) - total) < 1e-5 * total);

    double mass;
    for (int32_t k = 1; k <= num_vocab; k = k * 3 + 1) {
        const fm_cut cut = fm_select_search(v, k, INFINITY, 0.0, sc->keys, &mass);
        const uint64_t last = all[k - 1];
        CHECK(cut.low == fm_key_logit(last) && cut.last_token == fm_key_token(last));
        if (k <= FM_MAX_KEYS / 2) {
            const float low = fm_select_floor(v, k);
            const int32_t num = fm_select_gather(v, low, INFINITY, k, sc->keys);
            CHECK(num >= k);
            for (int32_t i = 0; i < k; i++) {
                CHECK(fm_keys_pop(sc->keys, num - i) == all[i]);
            }
        }
    }
    for (int percent = 1; percent < 100; percent += 14) {
        const double wanted = total * percent / 100.0;
        const fm_cut cut =
            fm_select_search(v, INT64_MAX, wanted, percent % 2 ? total : 0.0, sc->keys, &mass);
        double sum = 0.0;
        int32_t kept = 0;
        while (sum < wanted) {
            sum += (double)fm_weight(fm_key_logit(all[kept++]), v->max, FM_LOG2E);
        }
        const int32_t found =
            (int32_t)((const uint64_t *)bsearch(&(uint64_t){fm_key(cut.low, cut.last_token)}, all,
                                                (size_t)num_vocab, sizeof *all, by_key) -
                      all) +
            1;
        /* Sums of floats may put the end a token apart per hundred thousand. */
        CHECK(abs(found - kept) <= 1 + kept / 1000);
        CHECK(fabs(mass - wanted) < 1e-4 * total + (double)fm_weight(cut.low, v->max, FM_LOG2E));
    }
    const fm_cut everything = fm_select_search(v, INT64_MAX, INFINITY, 0.0, sc->keys, &mass);
    CHECK(everything.low == -FLT_MAX && everything.last_token == INT32_MAX);
    free(sc);
    free(all);
    free(row);
}

/* All variants draw the same tokens and give the same logprobs, whatever the parameters. */
static void test_variants_agree(int32_t num_vocab) {
    float *row = new_row(num_vocab, next_random() % 2 ? 0.25f : 0x1p-10f);
    uint32_t *mask = new_mask(num_vocab);
    if (next_random() % 4 == 0) {
        row[next_random() % (uint32_t)num_vocab] = INFINITY;
    }
    for (int32_t i = 1; i < num_vocab; i += 1 + (int32_t)(next_random() % 500)) {
        row[i] = next_random() % 2 ? NAN : -INFINITY;
    }
    row[0] = 1.0f;
    const int num_draws = num_vocab > 100000 ? 2 : 8;
    for (int round = 0; round < (num_vocab > 100000 ? 1 : 12); round++) {
        fm_sampler_params params = neutral;
        params.temperature = (float)(next_random() % 5) * 0.4f;
        params.top_k = next_random() % 2 ? (int32_t)(next_random() % 300) : 0;
        params.top_p = next_random() % 2 ? 0.9f : 1.0f;
        params.min_p = next_random() % 3 ? 0.0f : 0.01f;
        params.frequency_penalty = next_random() % 2 ? 0.5f : 0.0f;
        params.penalty_last_n = next_random() % 2 ? -1 : 3;
        params.seed = next_random();
        params.top_logprobs = (int32_t)(next_random() % 22) - 1;
        const uint32_t *used = next_random() % 2 ? mask : NULL;
        const int32_t bans[] = {num_vocab - 1,
                                num_vocab / 2 + 1 < num_vocab ? num_vocab / 2 + 1 : 0};
        int32_t expected[8];
        float expected_logprob = 0.0f;
        for (int32_t variant = FM_KERNELS_BEST; variant <= FM_KERNELS_AVX512; variant++) {
            if (!fm_sampler_has_kernels(variant)) {
                continue;
            }
            params.kernels = variant;
            fm_sampler *s = new_sampler(params, num_vocab);
            if (num_vocab > 2) {
                CHECK(fm_sampler_set_banned(s, bans, 2) == FM_OK);
            }
            for (int i = 0; i < num_draws; i++) {
                int32_t token = -1;
                CHECK(fm_sampler_draw(s, row, used, &token) == FM_OK);
                CHECK(token >= 0 && token < num_vocab && row[token] > -INFINITY);
                CHECK(used == NULL || (used[token / 32] >> (token % 32) & 1) == 1);
                CHECK(num_vocab <= 2 || token != bans[0]);
                if (variant == FM_KERNELS_BEST) {
                    expected[i] = token;
                }
                CHECK(token == expected[i]);
            }
            if (params.top_logprobs >= 0) {
                float logprob, values[FM_SAMPLER_MAX_TOP];
                int32_t tokens[FM_SAMPLER_MAX_TOP];
                const int num = fm_sampler_logprobs(s, &logprob, tokens, values);
                CHECK(num >= 0 && num <= params.top_logprobs && logprob <= 1e-6f);
                for (int i = 1; i < num; i++) {
                    CHECK(values[i] <= values[i - 1]);
                }
                if (variant == FM_KERNELS_BEST) {
                    expected_logprob = logprob;
                }
                CHECK(logprob == expected_logprob);
            }
            fm_sampler_free(s);
        }
    }
    free(mask);
    free(row);
}

/* The penalty window against counting it anew. */
static void test_history(int32_t last_n, int32_t num_prompt) {
    enum { NUM_VOCAB = 97, NUM_TOKENS = 1500 };
    int32_t tokens[NUM_TOKENS];
    for (int32_t i = 0; i < NUM_TOKENS; i++) {
        tokens[i] = (int32_t)(next_random() % NUM_VOCAB);
    }
    fm_history h;
    CHECK(fm_history_init(&h, last_n, NUM_VOCAB, tokens, num_prompt) == FM_OK);
    for (int32_t end = num_prompt; end < NUM_TOKENS; end++) {
        int32_t counts[NUM_VOCAB] = {0};
        int32_t num_distinct = 0;
        for (int32_t i = last_n < 0 || last_n > end ? 0 : end - last_n; i < end; i++) {
            num_distinct += counts[tokens[i]]++ == 0;
        }
        CHECK(h.num_counts == num_distinct);
        for (int32_t i = 0; i < h.num_counts; i++) {
            CHECK(h.counts[i].count == counts[h.counts[i].token]);
            CHECK(i == 0 || h.counts[i].token > h.counts[i - 1].token);
        }
        CHECK(fm_history_accept(&h, tokens[end]) == FM_OK);
    }
    fm_history_free(&h);
}

static void test_errors(void) {
    fm_sampler *s = new_sampler(neutral, 40);
    float row[40] = {0};
    const uint32_t none[2] = {0, 0xffffff00u}; /* bits beyond the vocabulary allow nothing */
    int32_t token = -7;
    CHECK(fm_sampler_draw(s, row, none, &token) == FM_SAMPLER_NO_TOKEN && token == -7);
    CHECK(fm_sampler_accept(s, 40) == FM_ERR_ARGUMENT);
    CHECK(fm_sampler_set_banned(s, &(int32_t){-1}, 1) == FM_ERR_ARGUMENT);
    float logprob;
    CHECK(fm_sampler_logprobs(s, &logprob, NULL, NULL) == FM_ERR_ARGUMENT);
    CHECK(fm_sampler_draw(s, row, NULL, &token) == FM_OK);
    fm_sampler_free(s);
    fm_sampler_params wrong = neutral;
    wrong.kernels = 99;
    CHECK(fm_sampler_new(&wrong, 40, NULL, NULL, 0, NULL, 0, 0, &s) == FM_ERR_ARGUMENT);
    CHECK(s == NULL);
    CHECK(fm_sampler_new(&neutral, 0, NULL, NULL, 0, NULL, 0, 0, &s) == FM_ERR_ARGUMENT);
    fm_sampler_free(NULL);
}

/* The very tokens, so that another compiler or CPU that draws others is noticed. */
static void test_golden(void) {
    static const int32_t any[8] = {1057, 2930, 4268, 1052, 1052, 3700, 24, 4061};
    static const int32_t truncated[8] = {4061, 4279, 3700, 1502, 3460, 1502, 1584, 3700};
    random_state = 2024;
    float *row = new_row(5000, 0x1p-10f);
    fm_sampler_params params = neutral;
    params.seed = 42;
    for (int kind = 0; kind < 2; kind++) {
        if (kind == 1) {
            params = (fm_sampler_params){.temperature = 0.75f,
                                         .top_k = 40,
                                         .top_p = 0.95f,
                                         .min_p = 0.05f,
                                         .repeat_penalty = 1.125f,
                                         .penalty_last_n = 64,
                                         .seed = 42,
                                         .top_logprobs = -1};
        }
        fm_sampler *s = new_sampler(params, 5000);
        for (int i = 0; i < 8; i++) {
            int32_t token = -1;
            CHECK(fm_sampler_draw(s, row, NULL, &token) == FM_OK);
            CHECK(token == (kind == 0 ? any : truncated)[i]);
        }
        fm_sampler_free(s);
    }
    free(row);
}

int main(void) {
    test_golden();
    for (int32_t variant = FM_KERNELS_BASELINE; variant <= FM_KERNELS_AVX512; variant++) {
        if (!fm_sampler_has_kernels(variant)) {
            continue;
        }
        test_selection(variant, 1, 1.0f);
        test_selection(variant, 1000, 0x1p-10f);
        test_selection(variant, 9001, 0x1p-10f);
        test_selection(variant, 9001, 0.5f);
        test_selection(variant, 9001, 64.0f);
    }
    static const int32_t sizes[] = {1, 2, 15, 16, 17, 127, 128, 129, 4097, 131073, 262145, 1 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        test_variants_agree(sizes[i]);
    }
    static const int32_t windows[] = {-1, 0, 1, 7, 64, 600, INT32_MAX};
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        test_history(windows[i], 0);
        test_history(windows[i], 40);
        test_history(windows[i], 1000);
    }
    test_errors();
    printf("sampler self-test passed\n");
    return 0;
}
