#include "unit/cmocka_unit.h"

#include "base/siphash.h"

/* The key and the example of the paper's appendix A, and the first entries of its test vectors. */
static void it_is_the_paper_s(void **state)
{
    const struct siphash_key key = {0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull};
    uint8_t input[15];

    (void)state;
    for (uint8_t i = 0; i < sizeof(input); i++)
        input[i] = i;
    assert_true(siphash(&key, bytes_of(input, 15)) == 0xa129ca6149be45e5ull);
    assert_true(siphash(&key, bytes_of(NULL, 0)) == 0x726fdb47dd0e0e31ull);
    assert_true(siphash(&key, bytes_of(input, 1)) == 0x74f839c593dc67fdull);
    assert_true(siphash(&key, bytes_of(input, 8)) == 0x93f5f5799a932462ull);
}

static void keys_differ(void **state)
{
    struct siphash_key a = siphash_key_new(), b = siphash_key_new();

    (void)state;
    assert_true(siphash(&a, BYTES("alice")) != siphash(&b, BYTES("alice")));
    assert_true(siphash(&a, BYTES("alice")) != siphash(&a, BYTES("bob")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_the_paper_s),
        cmocka_unit_test(keys_differ),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
