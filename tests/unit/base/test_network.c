#include "unit/cmocka_unit.h"

#include "base/network.h"

static bool holds(const char *outer, const char *inner)
{
    struct network a, b;

    assert_true(network_parse(outer, &a));
    assert_true(network_parse(inner, &b));
    return network_holds(&a, &b);
}

static void networks_are_read_whole_or_not(void **state)
{
    static const char *const wrong[] = {"",           "x",           "1.2.3",    "1.2.3.4/",
                                        "1.2.3.4/33", "1.2.3.4/-1",  "::/129",   "1.2.3.4/8x",
                                        "::1%lo",     "localhost/8", "1.2.3.4 ", "1.2.3.4/ 8"};
    struct network network;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        if (network_parse(wrong[i], &network))
            fail_msg("\"%s\" is taken", wrong[i]);
}

static void a_network_holds_what_its_bits_say(void **state)
{
    (void)state;
    assert_true(holds("127.0.0.0/8", "127.255.0.1"));
    assert_false(holds("127.0.0.0/8", "128.0.0.1"));
    assert_true(holds("10.1.2.128/25", "10.1.2.200"));
    assert_false(holds("10.1.2.128/25", "10.1.2.100"));
    assert_true(holds("0.0.0.0/0", "1.2.3.4"));
    assert_false(holds("0.0.0.0/0", "::1"));
    assert_true(holds("2001:db8::/33", "2001:db8:7fff::1"));
    assert_false(holds("2001:db8::/33", "2001:db8:8000::1"));
    assert_true(holds("::1", "::1"));
    assert_false(holds("10.0.0.0/24", "10.0.0.0/8"));
}

static void masked(const char *text, unsigned bits, const char *expected)
{
    struct network network;
    char out[NETWORK_TEXT_MAX];

    assert_true(network_parse(text, &network));
    network_mask(&network, bits);
    network_format(&network, out);
    assert_string_equal(out, expected);
}

static void a_mask_zeroes_the_rest(void **state)
{
    (void)state;
    masked("10.255.255.255", 32, "10.255.255.255");
    masked("10.255.255.255", 200, "10.255.255.255");
    masked("10.255.255.255", 9, "10.128.0.0/9");
    masked("10.255.255.255", 24, "10.255.255.0/24");
    masked("10.255.255.255", 0, "0.0.0.0/0");
    masked("2001:db8:ffff::1", 33, "2001:db8:8000::/33");
    masked("2001:db8:ffff::1", 127, "2001:db8:ffff::/127");
    masked("2001:db8:ffff::1", 128, "2001:db8:ffff::1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(networks_are_read_whole_or_not),
        cmocka_unit_test(a_network_holds_what_its_bits_say),
        cmocka_unit_test(a_mask_zeroes_the_rest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
