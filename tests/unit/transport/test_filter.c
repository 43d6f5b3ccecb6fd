/* Which message may arrive when: every message number in every state that a server, and that a
 * client can be in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/filter.h"

static const struct filter_state
    before_kexinit = {.session = FILTER_INITIAL_KEX, .dh = FILTER_DH_INIT},
    first_dh = {.session = FILTER_DH, .dh = FILTER_DH_INIT},
    first_strict_dh = {.session = FILTER_DH, .dh = FILTER_DH_INIT, .strict = true},
    first_newkeys_sent = {.session = FILTER_DH, .dh = FILTER_DH_NEWKEYS_SENT},
    authenticating = {.session = FILTER_AUTHENTICATING,
                      .dh = FILTER_DH_FINISHED,
                      .encrypted = true},
    early_rekey = {.session = FILTER_DH, .dh = FILTER_DH_INIT, .encrypted = true},
    authenticated = {.session = FILTER_AUTHENTICATED,
                     .dh = FILTER_DH_FINISHED,
                     .encrypted = true,
                     .authenticated = true},
    /* We sent KEXINIT, the peer has not yet. */
    rekey_asked = {.session = FILTER_AUTHENTICATED,
                   .dh = FILTER_DH_INIT_SENT,
                   .encrypted = true,
                   .authenticated = true},
    rekey_dh = {
        .session = FILTER_DH, .dh = FILTER_DH_INIT, .encrypted = true, .authenticated = true};

#define expect(state, type, verdict) assert_int_equal(filter_message(&(state), type), verdict)

static void test_connection_messages_need_login(void **state)
{
    (void)state;
    for (int type = 80; type <= 127; type++) {
        expect(before_kexinit, (uint8_t)type, FILTER_REFUSE);
        expect(first_dh, (uint8_t)type, FILTER_REFUSE);
        expect(first_newkeys_sent, (uint8_t)type, FILTER_REFUSE);
        expect(authenticating, (uint8_t)type, FILTER_REFUSE);
        expect(early_rekey, (uint8_t)type, FILTER_REFUSE);
        expect(authenticated, (uint8_t)type, FILTER_OWNER);
        expect(rekey_asked, (uint8_t)type, FILTER_OWNER);
        expect(rekey_dh, (uint8_t)type, FILTER_OWNER); /* asyncssh */
    }
}

static void test_server_messages_are_refused(void **state)
{
    static const uint8_t of_a_server[] = {6, 31, 33, 51, 52, 53, 60};

    (void)state;
    for (size_t i = 0; i < sizeof(of_a_server); i++) {
        expect(before_kexinit, of_a_server[i], FILTER_REFUSE);
        expect(first_dh, of_a_server[i], FILTER_REFUSE);
        expect(authenticating, of_a_server[i], FILTER_REFUSE);
        expect(authenticated, of_a_server[i], FILTER_REFUSE);
        expect(rekey_dh, of_a_server[i], FILTER_REFUSE);
    }
}

static void test_userauth(void **state)
{
    static const uint8_t of_a_client[] = {50, 61, 62, 63, 64, 65, 66};

    (void)state;
    for (size_t i = 0; i < sizeof(of_a_client); i++) {
        expect(before_kexinit, of_a_client[i], FILTER_REFUSE);
        expect(first_newkeys_sent, of_a_client[i], FILTER_REFUSE);
        expect(early_rekey, of_a_client[i], FILTER_REFUSE);
        expect(authenticating, of_a_client[i], FILTER_OWNER);
        expect(authenticated, of_a_client[i], FILTER_OWNER); /* late: the owner ignores it */
        expect(rekey_asked, of_a_client[i], FILTER_OWNER);
        expect(rekey_dh, of_a_client[i], FILTER_REFUSE);
    }
    expect(authenticating, 54, FILTER_UNIMPLEMENTED);
    expect(authenticating, 79, FILTER_UNIMPLEMENTED);
}

static void test_key_exchange(void **state)
{
    (void)state;
    expect(before_kexinit, 20, FILTER_LIBSSH);
    expect(first_dh, 20, FILTER_REFUSE);
    expect(first_newkeys_sent, 20, FILTER_REFUSE);
    expect(authenticating, 20, FILTER_LIBSSH);
    expect(early_rekey, 20, FILTER_REFUSE);
    expect(authenticated, 20, FILTER_LIBSSH);
    expect(rekey_asked, 20, FILTER_LIBSSH);
    expect(rekey_dh, 20, FILTER_REFUSE);

    expect(before_kexinit, 21, FILTER_REFUSE);
    expect(first_dh, 21, FILTER_REFUSE);
    expect(first_newkeys_sent, 21, FILTER_LIBSSH);
    expect(authenticating, 21, FILTER_REFUSE);
    expect(authenticated, 21, FILTER_REFUSE);

    expect(before_kexinit, 30, FILTER_REFUSE);
    expect(first_dh, 30, FILTER_LIBSSH);
    expect(first_newkeys_sent, 30, FILTER_REFUSE);
    expect(authenticating, 30, FILTER_REFUSE);
    expect(authenticated, 30, FILTER_REFUSE);
    expect(rekey_asked, 30, FILTER_REFUSE);
    expect(rekey_dh, 30, FILTER_LIBSSH);
    expect(first_dh, 32, FILTER_REFUSE); /* group exchange is not offered */
    expect(first_dh, 34, FILTER_REFUSE);
    expect(rekey_dh, 34, FILTER_REFUSE);
}

static void test_strict_first_exchange(void **state)
{
    (void)state;
    for (int type = 0; type < 256; type++) {
        enum filter_verdict verdict = filter_message(&first_strict_dh, (uint8_t)type);

        if (type == 30)
            assert_int_equal(verdict, FILTER_LIBSSH);
        else if (type == 1)
            assert_int_equal(verdict, FILTER_DISCONNECT);
        else
            assert_int_equal(verdict, FILTER_REFUSE);
    }
}

static void test_transport_messages(void **state)
{
    (void)state;
    expect(before_kexinit, 1, FILTER_DISCONNECT);
    expect(authenticated, 1, FILTER_DISCONNECT);
    expect(rekey_dh, 1, FILTER_DISCONNECT);
    expect(first_dh, 2, FILTER_IGNORE);
    expect(rekey_dh, 3, FILTER_IGNORE);
    expect(first_dh, 4, FILTER_IGNORE); /* in plaintext it reaches nobody */
    expect(authenticating, 4, FILTER_OWNER);
    expect(first_dh, 5, FILTER_REFUSE);
    expect(authenticating, 5, FILTER_OWNER);
    expect(rekey_dh, 5, FILTER_REFUSE);
    expect(before_kexinit, 7, FILTER_REFUSE);
    expect(authenticating, 7, FILTER_OWNER);
    expect(authenticated, 7, FILTER_OWNER);
}

static void test_unknown_and_ping(void **state)
{
    static const uint8_t unknown[] = {0, 8, 19, 22, 29, 35, 49, 128, 191, 194, 255};

    (void)state;
    for (size_t i = 0; i < sizeof(unknown); i++) {
        expect(first_dh, unknown[i], FILTER_UNIMPLEMENTED);
        expect(authenticating, unknown[i], FILTER_UNIMPLEMENTED);
        expect(authenticated, unknown[i], FILTER_UNIMPLEMENTED);
    }
    expect(first_dh, 192, FILTER_UNIMPLEMENTED);
    expect(authenticating, 192, FILTER_PING);
    expect(authenticated, 192, FILTER_PING);
    expect(authenticated, 193, FILTER_IGNORE);
}

/* ---- as a client */

static const struct filter_state client_states[] = {
    {.client = true, .session = FILTER_INITIAL_KEX, .dh = FILTER_DH_INIT},
    {.client = true, .session = FILTER_DH, .dh = FILTER_DH_INIT_SENT},
    {.client = true, .session = FILTER_DH, .dh = FILTER_DH_INIT_SENT, .strict = true},
    {.client = true, .session = FILTER_DH, .dh = FILTER_DH_NEWKEYS_SENT},
    {.client = true, .session = FILTER_AUTHENTICATING, .dh = FILTER_DH_FINISHED, .encrypted = true},
    /* A rekey before login. */
    {.client = true, .session = FILTER_DH, .dh = FILTER_DH_INIT_SENT, .encrypted = true},
    {.client = true,
     .session = FILTER_AUTHENTICATED,
     .dh = FILTER_DH_FINISHED,
     .encrypted = true,
     .authenticated = true},
    /* We sent KEXINIT, the server has not yet; then it has. */
    {.client = true,
     .session = FILTER_AUTHENTICATED,
     .dh = FILTER_DH_INIT_SENT,
     .encrypted = true,
     .authenticated = true},
    {.client = true,
     .session = FILTER_DH,
     .dh = FILTER_DH_INIT_SENT,
     .encrypted = true,
     .authenticated = true},
};

static const char letters[] = {
    [FILTER_REFUSE] = '-',        [FILTER_LIBSSH] = 'K', [FILTER_OWNER] = 'O',
    [FILTER_DISCONNECT] = 'D',    [FILTER_IGNORE] = 'I', [FILTER_PING] = 'P',
    [FILTER_UNIMPLEMENTED] = 'U',
};

/* One letter a state, in their order. */
static const struct {
    int first, last;
    const char *verdicts;
} from_a_server[] = {
    {0, 0, "UU-UUUUUU"},     {1, 1, "DDDDDDDDD"},     {2, 3, "II-IIIIII"},
    {4, 4, "II-IOOOOO"},     {5, 5, "---------"},     {6, 6, "----O----"},
    {7, 7, "----O-OO-"},     {8, 19, "UU-UUUUUU"},    {20, 20, "K---K-KK-"},
    {21, 21, "---K-----"},   {22, 29, "UU-UUUUUU"},   {30, 30, "---------"},
    {31, 31, "-KK--K--K"},   {32, 34, "---------"},   {35, 49, "UU-UUUUUU"},
    {50, 50, "---------"},   {51, 53, "----O----"},   {54, 59, "----U-UU-"},
    {60, 66, "----O----"},   {67, 79, "----U-UU-"},   {80, 127, "------OOO"},
    {128, 191, "UU-UUUUUU"}, {192, 192, "UU-UPPPPP"}, {193, 193, "UU-UIIIII"},
    {194, 255, "UU-UUUUUU"},
};

static void test_from_a_server(void **state)
{
    int next = 0;

    (void)state;
    for (size_t row = 0; row < sizeof(from_a_server) / sizeof(from_a_server[0]); row++) {
        assert_int_equal(from_a_server[row].first, next);
        for (; next <= from_a_server[row].last; next++)
            for (size_t i = 0; i < sizeof(client_states) / sizeof(client_states[0]); i++)
                assert_int_equal(letters[filter_message(&client_states[i], (uint8_t)next)],
                                 from_a_server[row].verdicts[i]);
    }
    assert_int_equal(next, 256);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connection_messages_need_login),
        cmocka_unit_test(test_server_messages_are_refused),
        cmocka_unit_test(test_userauth),
        cmocka_unit_test(test_key_exchange),
        cmocka_unit_test(test_strict_first_exchange),
        cmocka_unit_test(test_transport_messages),
        cmocka_unit_test(test_unknown_and_ping),
        cmocka_unit_test(test_from_a_server),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
