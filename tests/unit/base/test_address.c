#include "unit/cmocka_unit.h"

#include "base/address.h"

#include <netinet/in.h>
#include <string.h>

static void addresses_are_read_and_written(void **state)
{
    static const char *const texts[] = {"127.0.0.1:22", "0.0.0.0:0", "[::1]:65535",
                                        "[2001:db8::1]:2222"};

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct sockaddr_storage addr;
        struct address address;
        socklen_t len;
        const char *error = NULL;
        char out[ADDRESS_TEXT_MAX + 16];

        assert_true(address_parse(texts[i], &addr, &len, &error));
        address = address_of((const struct sockaddr *)&addr);
        address_format(&address, out);
        assert_string_equal(out, texts[i]);
    }
}

static void wrong_addresses_are_explained(void **state)
{
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"localhost", "no port"},
        {"", "no port"},
        {"h:", "not a number"},
        {"h:22a", "not a number"},
        {"h:65536", "not a number"},
        {"h:-1", "not a number"},
        {"h: 22", "not a number"},
        {"h:999999999999999999999", "not a number"},
        {"::1:22", "needs brackets"},
        {"[::1:22", "cannot be resolved"},
        {"[zz]:22", "cannot be resolved"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct socket_address all[ADDRESS_ALL_MAX];
        const char *error = NULL;

        assert_int_equal(address_parse_all(cases[i].text, all, &error), 0);
        if (strstr(error, cases[i].why) == NULL)
            fail_msg("%s: %s", cases[i].text, error);
    }
}

static void any_is_both_families(void **state)
{
    static const char *const texts[] = {"*:22", ":22"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct socket_address all[ADDRESS_ALL_MAX];
        const char *error = NULL;
        int families = 0;

        assert_int_equal(address_parse_all(texts[i], all, &error), 2);
        for (size_t k = 0; k < 2; k++)
            families |= all[k].addr.ss_family == AF_INET ? 1 : 2;
        assert_int_equal(families, 3);
    }
}

static void a_mapped_address_is_written_as_v4(void **state)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(22)};
    struct sockaddr local = {.sa_family = AF_UNIX};
    struct address address;

    (void)state;
    v6.sin6_addr.s6_addr[10] = v6.sin6_addr.s6_addr[11] = 0xff;
    memcpy(&v6.sin6_addr.s6_addr[12], "\xc0\x00\x02\x01", 4);
    address = address_of((const struct sockaddr *)&v6);
    assert_string_equal(address.ip, "192.0.2.1");
    assert_int_equal(address.port, 22);
    address = address_of(&local);
    assert_string_equal(address.ip, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_read_and_written),
        cmocka_unit_test(wrong_addresses_are_explained),
        cmocka_unit_test(any_is_both_families),
        cmocka_unit_test(a_mapped_address_is_written_as_v4),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
