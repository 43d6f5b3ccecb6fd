/* Revocation lists as ssh-keygen makes them, plain lists of keys, and what must not be read as
 * either: then everything is revoked. */
#include "unit/cmocka_unit.h"

#include "auth/revoked.h"
#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

/* Made by `ssh-keygen -k` of OpenSSH 9.2: A explicitly; under CA the serials 1, 3, 5-7,
 * 1000-2000000 and the last two of all, and the key ids "alice" and "bob smith"; under any
 * authority the id "mallory"; A by SHA1; B by SHA256; under CA every third serial from 10000 to
 * 10300; a certificate of serial 4711 under CA; most of it in one list. */
#define KEY_A   "AAAAC3NzaC1lZDI1NTE5AAAAIPopFE+/1ub8sDgemVFknr8Jof3pdCVfQ4O83vrdOStI"
#define KEY_B   "AAAAC3NzaC1lZDI1NTE5AAAAIMJwOVfDcNAqrx9fNfAwjNJ6BtoQ88pXo3lfNXivmgbK"
#define KEY_C   "AAAAC3NzaC1lZDI1NTE5AAAAIG68+MIWevloaLrBJKcW7hXos5NWuh5vbb/HxfF7zxJr"
#define KEY_CA  "AAAAC3NzaC1lZDI1NTE5AAAAIDrjzyinwo0z0RmmFefRhkATgEmhkqHkiax+S2fbTOve"
#define KEY_CA2 "AAAAC3NzaC1lZDI1NTE5AAAAILjHsX8d+aV6euBmH2ed9BUCvLSJ1B9v1AKdssKuCy5f"
#define KRL_EXPLICIT                                                                               \
    "U1NIS1JMCgAAAAABAAAAAAAAAAAAAAAAawb3dAAAAAAAAAAAAAAAAAAAAAACAAAANwAAADMAAAALc3NoLWVk"         \
    "MjU1MTkAAAAg+ikUT7/W5vywOB6ZUWSevwmh/el0JV9Dg7ze+t05K0g="
#define KRL_CA                                                                                     \
    "U1NIS1JMCgAAAAABAAAAAAAAAAAAAAAAawb3dAAAAAAAAAAAAAAAAAAAAAABAAAAjwAAADMAAAALc3NoLWVk"         \
    "MjU1MTkAAAAgOuPPKKfCjTPRGaYV59GGQBOASaGSoeSJrH5LZ9tM694AAAAAIgAAAA0AAAAAAAAAAQAAAAF1"         \
    "IQAAABAAAAAAAAAD6AAAAAAAHoSAIgAAAA3//////////gAAAAEDIwAAABYAAAAFYWxpY2UAAAAJYm9iIHNt"         \
    "aXRo"
#define KRL_ANY                                                                                    \
    "U1NIS1JMCgAAAAABAAAAAAAAAAAAAAAAawb3dAAAAAAAAAAAAAAAAAAAAAABAAAAGAAAAAAAAAAAIwAAAAsA"         \
    "AAAHbWFsbG9yeQ=="
#define KRL_SHA1                                                                                   \
    "U1NIS1JMCgAAAAABAAAAAAAAAAAAAAAAawb3dAAAAAAAAAAAAAAAAAAAAAADAAAAGAAAABTHsLOVSsGbjFAA"         \
    "hHSuqvQSGIm2OA=="
#define KRL_SHA256                                                                                 \
    "U1NIS1JMCgAAAAABAAAAAAAAAAAAAAAAawb3dAAAAAAAAAAAAAAAAAAAAAAFAAAAJAAAACBKhsi2TUcm1i/6"         \
    "V+P2bii3/YYd9VPykDgnrBp8ee8Cqw=="
#define KRL_BITMAP                                                                                 \
    "U1NIS1JMCgAAAAABAAAAAAAAAAAAAAAAawb3dQAAAAAAAAAAAAAAAAAAAAABAAAAcgAAADMAAAALc3NoLWVk"         \
    "MjU1MTkAAAAgOuPPKKfCjTPRGaYV59GGQBOASaGSoeSJrH5LZ9tM694AAAAAIgAAADIAAAAAAAAnEAAAACYS"         \
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSQ=="
#define KRL_CERT                                                                                   \
    "U1NIS1JMCgAAAAABAAAAAAAAAAAAAAAAawb3dQAAAAAAAAAAAAAAAAAAAAABAAAASAAAADMAAAALc3NoLWVk"         \
    "MjU1MTkAAAAgOuPPKKfCjTPRGaYV59GGQBOASaGSoeSJrH5LZ9tM694AAAAAIAAAAAgAAAAAAAASZw=="
#define KRL_ALL                                                                                    \
    "U1NIS1JMCgAAAAABAAAAAAAAAAAAAAAAawb38AAAAAAAAAAAAAAAAAAAAAABAAAAjwAAADMAAAALc3NoLWVk"         \
    "MjU1MTkAAAAgOuPPKKfCjTPRGaYV59GGQBOASaGSoeSJrH5LZ9tM694AAAAAIgAAAA0AAAAAAAAAAQAAAAF1"         \
    "IQAAABAAAAAAAAAD6AAAAAAAHoSAIgAAAA3//////////gAAAAEDIwAAABYAAAAFYWxpY2UAAAAJYm9iIHNt"         \
    "aXRoAQAAABgAAAAAAAAAACMAAAALAAAAB21hbGxvcnkCAAAANwAAADMAAAALc3NoLWVkMjU1MTkAAAAg+ikU"         \
    "T7/W5vywOB6ZUWSevwmh/el0JV9Dg7ze+t05K0gDAAAAGAAAABTHsLOVSsGbjFAAhHSuqvQSGIm2OAUAAAAk"         \
    "AAAAIEqGyLZNRybWL/pX4/ZuKLf9hh31U/KQOCesGnx57wKr"
#define CERTIFICATE_A                                                                              \
    "AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAIPanO4wZmVzCIxwTGbij0T4Cx0usIzGt"         \
    "tBV+ruQJHg7TAAAAIPopFE+/1ub8sDgemVFknr8Jof3pdCVfQ4O83vrdOStIAAAAAAAAEmcAAAABAAAABmFs"         \
    "aWNlMgAAAAUAAAABeAAAAAAAAAAA//////////8AAAAAAAAAggAAABVwZXJtaXQtWDExLWZvcndhcmRpbmcA"         \
    "AAAAAAAAF3Blcm1pdC1hZ2VudC1mb3J3YXJkaW5nAAAAAAAAABZwZXJtaXQtcG9ydC1mb3J3YXJkaW5nAAAA"         \
    "AAAAAApwZXJtaXQtcHR5AAAAAAAAAA5wZXJtaXQtdXNlci1yYwAAAAAAAAAAAAAAMwAAAAtzc2gtZWQyNTUx"         \
    "OQAAACA6488op8KNM9EZphXn0YZAE4BJoZKh5Imsfktn20zr3gAAAFMAAAALc3NoLWVkMjU1MTkAAABAoS5k"         \
    "BKtHp/aspBYex4cqZLPTsgM92dQHPyMrUKPH59PuD26iVMH5u9WlbfKJKjYCIL0HImgMtyyVKcRihlTFCg=="

/* ---- helpers */

static struct buf decoded(const char *base64)
{
    struct buf out = {0};

    assert_true(buf_put_base64(&out, bytes_of_string(base64)));
    return out;
}

static struct revoked *parsed(const char *base64)
{
    struct buf list = decoded(base64);
    const char *why;
    struct revoked *revoked = revoked_parse(buf_bytes(&list), &why);

    if (why != NULL)
        fail_msg("%s: %s", base64, why);
    buf_clear(&list);
    return revoked;
}

static bool has_key(const struct revoked *revoked, const char *key)
{
    struct buf blob = decoded(key);
    bool has = revoked_has_key(revoked, buf_bytes(&blob));

    buf_clear(&blob);
    return has;
}

struct issued {
    uint64_t serial;
    const char *id, *key, *ca; /* NULL: "someone", KEY_C, KEY_CA */
};

static bool has_certificate(const struct revoked *revoked, struct issued issued)
{
    struct buf key = decoded(issued.key ? issued.key : KEY_C);
    struct buf ca = decoded(issued.ca ? issued.ca : KEY_CA);
    struct revoked_query query = {
        .serial = issued.serial,
        .key_id = bytes_of_string(issued.id ? issued.id : "someone"),
        .key_blob = buf_bytes(&key),
        .ca_blob = buf_bytes(&ca),
    };
    bool has = revoked_has_certificate(revoked, &query);

    buf_clear(&key);
    buf_clear(&ca);
    return has;
}

/* ---- lists of ssh-keygen */

static void keys_are_revoked_by_blob_and_fingerprint(void **state)
{
    static const struct {
        const char *list;
        bool a, b, c;
    } cases[] = {
        {KRL_EXPLICIT, true, false, false}, {KRL_SHA1, true, false, false},
        {KRL_SHA256, false, true, false},   {KRL_ALL, true, true, false},
        {KRL_CA, false, false, false},      {KRL_CERT, false, false, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct revoked *revoked = parsed(cases[i].list);

        assert_int_equal(has_key(revoked, KEY_A), cases[i].a);
        assert_int_equal(has_key(revoked, KEY_B), cases[i].b);
        assert_int_equal(has_key(revoked, KEY_C), cases[i].c);
        /* The key that is certified counts, and so does the authority's. */
        assert_int_equal(has_certificate(revoked, (struct issued){.key = KEY_A, .serial = 99}),
                         cases[i].a);
        assert_int_equal(has_certificate(revoked, (struct issued){.ca = KEY_A, .serial = 99}),
                         cases[i].a);
        assert_int_equal(has_certificate(revoked, (struct issued){.ca = KEY_B, .serial = 99}),
                         cases[i].b);
        revoked_free(&revoked);
        assert_null(revoked);
    }
}

static void certificates_are_revoked_by_serial_and_id(void **state)
{
    static const struct {
        const char *list;
        struct issued issued;
        bool revoked;
    } cases[] = {
        {KRL_CA, {.serial = 0}, false},
        {KRL_CA, {.serial = 1}, true},
        {KRL_CA, {.serial = 1, .ca = KEY_CA2}, false},
        {KRL_CA, {.serial = 2}, false},
        {KRL_CA, {.serial = 3}, true},
        {KRL_CA, {.serial = 4}, false},
        {KRL_CA, {.serial = 5}, true},
        {KRL_CA, {.serial = 6}, true},
        {KRL_CA, {.serial = 7}, true},
        {KRL_CA, {.serial = 8}, false},
        {KRL_CA, {.serial = 999}, false},
        {KRL_CA, {.serial = 1000}, true},
        {KRL_CA, {.serial = 1500000}, true},
        {KRL_CA, {.serial = 2000000}, true},
        {KRL_CA, {.serial = 2000001}, false},
        {KRL_CA, {.serial = UINT64_MAX - 2}, false},
        {KRL_CA, {.serial = UINT64_MAX - 1}, true},
        {KRL_CA, {.serial = UINT64_MAX}, true},
        {KRL_CA, {.serial = 2, .id = "alice"}, true},
        {KRL_CA, {.serial = 2, .id = "Alice"}, false},
        {KRL_CA, {.serial = 2, .id = "alice "}, false},
        {KRL_CA, {.serial = 2, .id = ""}, false},
        {KRL_CA, {.serial = 2, .id = "bob smith"}, true},
        {KRL_CA, {.serial = 2, .id = "alice", .ca = KEY_CA2}, false},
        {KRL_ANY, {.serial = 2, .id = "mallory"}, true},
        {KRL_ANY, {.serial = 2, .id = "mallory", .ca = KEY_CA2}, true},
        {KRL_ANY, {.serial = 2}, false},
        {KRL_CERT, {.serial = 4711}, true},
        {KRL_CERT, {.serial = 4711, .ca = KEY_CA2}, false},
        {KRL_CERT, {.serial = 4712}, false},
        {KRL_BITMAP, {.serial = 9999}, false},
        {KRL_BITMAP, {.serial = 10301}, false},
        {KRL_BITMAP, {.serial = 10003, .ca = KEY_CA2}, false},
        {KRL_ALL, {.serial = 6}, true},
        {KRL_ALL, {.serial = 10300}, true},
        {KRL_ALL, {.serial = 4, .id = "mallory", .ca = KEY_CA2}, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct revoked *revoked = parsed(cases[i].list);

        if (has_certificate(revoked, cases[i].issued) != cases[i].revoked)
            fail_msg("case %zu", i);
        revoked_free(&revoked);
    }
}

static void bits_of_a_bitmap_are_serials(void **state)
{
    struct revoked *revoked = parsed(KRL_BITMAP);

    (void)state;
    for (uint64_t serial = 9990; serial < 10310; serial++)
        assert_int_equal(has_certificate(revoked, (struct issued){.serial = serial}),
                         serial >= 10000 && serial <= 10300 && (serial - 10000) % 3 == 0);
    revoked_free(&revoked);
}

static void no_list_revokes_nothing(void **state)
{
    const char *why;
    struct revoked *revoked = revoked_parse(bytes_of(NULL, 0), &why);

    (void)state;
    assert_null(why);
    assert_false(has_key(revoked, KEY_A));
    assert_false(has_key(NULL, KEY_A));
    assert_false(has_certificate(revoked, (struct issued){0}));
    assert_false(has_certificate(NULL, (struct issued){0}));
    revoked_free(&revoked);
    revoked_free(&revoked);
}

/* ---- lists made here */

static struct buf header(void)
{
    struct buf out = {0};

    buf_put(&out, BYTES("SSHKRL\n\0\0\0\0\1"));
    buf_put(&out, BYTES("\0\0\0\0\0\0\0\1"
                        "\0\0\0\0\0\0\0\2"
                        "\0\0\0\0\0\0\0\0"));
    buf_put_cstring(&out, "reserved");
    buf_put_cstring(&out, "a comment");
    return out;
}

static void put_section(struct buf *out, uint8_t type, struct bytes body)
{
    buf_put_u8(out, type);
    buf_put_string(out, body);
}

static void put_u64(struct buf *out, uint64_t value)
{
    buf_put_u32(out, (uint32_t)(value >> 32));
    buf_put_u32(out, (uint32_t)value);
}

/* A list with one section of certificates of any authority, which has this one section. */
static struct buf with_certificates(uint8_t type, struct bytes body)
{
    struct buf list = header(), section = {0};

    buf_put_string(&section, bytes_of(NULL, 0));
    buf_put_cstring(&section, "reserved");
    put_section(&section, type, body);
    put_section(&list, 1, buf_bytes(&section));
    buf_clear(&section);
    return list;
}

static const char *problem_of(struct bytes list)
{
    const char *why;
    struct revoked *revoked = revoked_parse(list, &why);
    bool everything = has_key(revoked, KEY_C) && has_key(revoked, KEY_CA2) &&
                      has_certificate(revoked, (struct issued){.serial = 77777});

    revoked_free(&revoked);
    if (everything != (why != NULL))
        fail_msg("%s, but everything is%s revoked", why ? why : "no problem",
                 everything ? "" : " not");
    return why;
}

static void assert_problem(struct buf *list, const char *wanted)
{
    const char *why = problem_of(buf_bytes(list));

    if (wanted == NULL ? why != NULL : why == NULL || strstr(why, wanted) == NULL)
        fail_msg("%s instead of %s", why ? why : "no problem", wanted ? wanted : "none");
    buf_clear(list);
}

static void sections_are_understood_or_revoke_everything(void **state)
{
    static const struct {
        uint8_t type;
        struct bytes body;
        const char *why; /* NULL: fine */
    } cases[] = {
        {2, {0}, NULL},
        {2,
         BYTES("\0\0\0\7"
               "\0\0\0\3"
               "new"),
         NULL}, /* of a type to come */
        {2, BYTES("\0\0\0\0"), "malformed"},
        {2,
         BYTES("\0\0\0\3"
               "abc"),
         "malformed"},
        {2,
         BYTES("\0\0\0\x0f"
               "\0\0\0\x0b"
               "ssh-ed25519"),
         "malformed"},
        {2,
         BYTES("\0\0\0\x0b"
               "\0\0\0\7"
               "ssh-rsa"),
         "malformed"},
        {2,
         BYTES("\0\0\0\x24"
               "\0\0\0\x20"
               "ssh-ed25519-cert-v01@openssh.com"),
         "malformed"},
        {2,
         BYTES("\0\0\0\x30"
               "\0\0\0\3"
               "new"),
         "cut short"},
        {2, BYTES("\0\0"), "cut short"},
        {2, BYTES("\xff\xff\xff\xff"), "cut short"},
        {3, {0}, NULL},
        {3,
         BYTES("\0\0\0\x14"
               "aaaaaaaaaaaaaaaaaaaa"),
         NULL},
        {3,
         BYTES("\0\0\0\x13"
               "aaaaaaaaaaaaaaaaaaa"),
         "wrong length"},
        {3, BYTES("\0\0\0\0"), "wrong length"},
        {3,
         BYTES("\0\0\0\x15"
               "aaaaaaaaaaaaaaaaaaaa"),
         "cut short"},
        {5,
         BYTES("\0\0\0\x14"
               "aaaaaaaaaaaaaaaaaaaa"),
         "wrong length"},
        {5,
         BYTES("\0\0\0\x20"
               "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
         NULL},
        {255,
         BYTES("\0\0\0\3"
               "x@y"
               "\0"
               "\0\0\0\2"
               "zz"),
         NULL},
        {255,
         BYTES("\0\0\0\3"
               "x@y"
               "\1"
               "\0\0\0\2"
               "zz"),
         "critical"},
        {255,
         BYTES("\0\0\0\3"
               "x@y"
               "\2"
               "\0\0\0\0"),
         "critical"},
        {255,
         BYTES("\0\0\0\3"
               "x@y"
               "\0"
               "\0\0\0\2"
               "z"),
         "cut short"},
        {255,
         BYTES("\0\0\0\3"
               "x@y"
               "\0"
               "\0\0\0\2"
               "zz"
               "\0"),
         "cut short"},
        {255, {0}, "cut short"},
        {4, BYTES("key"), "signature"},
        {0, {0}, "unknown section"},
        {6, {0}, "unknown section"},
        {254, {0}, "unknown section"},
        {1, {0}, "cut short"},
        {1, BYTES("\0\0\0\0"), "cut short"},
        {1,
         BYTES("\0\0\0\0"
               "\0\0\0\0"),
         NULL},
        {1,
         BYTES("\0\0\0\0"
               "\0\0\0\0"
               "\x20"),
         "cut short"},
        {1,
         BYTES("\0\0\0\3"
               "abc"
               "\0\0\0\0"),
         "authority"},
        {1,
         BYTES("\0\0\0\7"
               "\0\0\0\3"
               "new"
               "\0\0\0\0"),
         NULL},
        /* A section of certificates within one of certificates. */
        {1,
         BYTES("\0\0\0\0"
               "\0\0\0\0"
               "\1"
               "\0\0\0\10"
               "\0\0\0\0"
               "\0\0\0\0"),
         "unknown section"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf list = header();

        put_section(&list, cases[i].type, cases[i].body);
        assert_problem(&list, cases[i].why);
    }
}

static void sections_of_certificates_are_understood_or_revoke_everything(void **state)
{
    static const struct {
        uint8_t type;
        struct bytes body;
        const char *why;
    } cases[] = {
        {0x20, {0}, NULL},
        {0x20, BYTES("\0\0\0\0\0\0\0\1"), NULL},
        {0x20, BYTES("\0\0\0\0\0\0\0\1\0"), "cut short"},
        {0x21, BYTES("\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1"), NULL},
        {0x21, BYTES("\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\1"), "ends before"},
        {0x21, BYTES("\xff\0\0\0\0\0\0\2\0\0\0\0\0\0\0\1"), "ends before"},
        {0x21, BYTES("\0\0\0\0\0\0\0\1"), "cut short"},
        {0x21, BYTES("\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1\0"), "cut short"},
        {0x22,
         BYTES("\0\0\0\0\0\0\0\1"
               "\0\0\0\1"
               "\1"),
         NULL},
        {0x22,
         BYTES("\0\0\0\0\0\0\0\1"
               "\0\0\0\0"),
         NULL},
        {0x22,
         BYTES("\0\0\0\0\0\0\0\1"
               "\0\0\0\1"
               "\x80"),
         "below zero"},
        {0x22,
         BYTES("\0\0\0\0\0\0\0\1"
               "\0\0\0\2"
               "\xff\xff"),
         "below zero"},
        {0x22,
         BYTES("\0\0\0\0\0\0\0\1"
               "\0\0\0\2"
               "\1"),
         "cut short"},
        {0x22,
         BYTES("\xff\xff\xff\xff\xff\xff\xff\xff"
               "\0\0\0\1"
               "\1"),
         NULL},
        {0x22,
         BYTES("\xff\xff\xff\xff\xff\xff\xff\xff"
               "\0\0\0\1"
               "\2"),
         "beyond"},
        {0x22,
         BYTES("\xff\xff\xff\xff\xff\xff\xff\xff"
               "\0\0\0\3"
               "\0\0\2"),
         "beyond"},
        {0x22,
         BYTES("\xff\xff\xff\xff\xff\xff\xff\xff"
               "\0\0\0\3"
               "\0\0\1"),
         NULL},
        {0x23, {0}, NULL},
        {0x23,
         BYTES("\0\0\0\1"
               "a"),
         NULL},
        {0x23,
         BYTES("\0\0\0\2"
               "a\0"),
         "NUL"},
        {0x23,
         BYTES("\0\0\0\2"
               "a"),
         "cut short"},
        {0x39,
         BYTES("\0\0\0\1"
               "a"
               "\0"
               "\0\0\0\0"),
         NULL},
        {0x39,
         BYTES("\0\0\0\1"
               "a"
               "\1"
               "\0\0\0\0"),
         "critical"},
        {0x39,
         BYTES("\0\0\0\1"
               "a"),
         "cut short"},
        {0x24, {0}, "unknown section"},
        {0x00, {0}, "unknown section"},
        {0xff, {0}, "unknown section"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf list = with_certificates(cases[i].type, cases[i].body);

        assert_problem(&list, cases[i].why);
    }
}

static void a_list_that_is_cut_revokes_everything(void **state)
{
    struct buf list = decoded(KRL_ALL);
    size_t whole = 0;

    (void)state;
    for (size_t len = 1; len < list.len; len++)
        whole += problem_of(bytes_of(list.data, len)) == NULL;
    assert_int_equal(whole, 5); /* behind the header, and behind each section but the last */
    buf_put_u8(&list, 0);
    assert_problem(&list, "cut short");
    list = decoded(KRL_ALL);
    list.data[11] = 2;
    assert_problem(&list, "version");
}

/* OpenSSH ignores serial 0; here a list that names it means it. */
static void serial_zero_is_one_like_any_other(void **state)
{
    struct buf list = with_certificates(0x21, BYTES("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"));
    const char *why;
    struct revoked *revoked = revoked_parse(buf_bytes(&list), &why);

    (void)state;
    assert_null(why);
    assert_true(has_certificate(revoked, (struct issued){.serial = 0}));
    assert_true(has_certificate(revoked, (struct issued){.serial = 1}));
    assert_false(has_certificate(revoked, (struct issued){.serial = 2}));
    revoked_free(&revoked);
    buf_clear(&list);
}

/* Ranges that overlap, lie within each other and come in any order, against a plain count. */
static void overlapping_ranges_are_all_looked_at(void **state)
{
    uint8_t wanted[512] = {0};
    struct buf body = {0}, list = header(), section = {0};
    uint32_t chance = 12345;
    struct revoked *revoked;
    const char *why;

    (void)state;
    buf_put_string(&section, bytes_of(NULL, 0));
    buf_put_string(&section, bytes_of(NULL, 0));
    for (size_t i = 0; i < 40; i++) {
        uint64_t lo, hi;

        chance = chance * 1103515245 + 12345;
        lo = chance >> 16 & 0x1ff;
        hi = lo + (chance >> 8 & (i % 8 == 0 ? 0x3f : 0x3));
        buf_reset(&body);
        put_u64(&body, lo);
        if (i % 3 == 0) { /* bits 0 and 2 */
            buf_put_string(&body, BYTES("\5"));
            wanted[lo] = 1;
            if (lo + 2 < sizeof(wanted))
                wanted[lo + 2] = 1;
        } else {
            put_u64(&body, hi);
            for (uint64_t serial = lo; serial <= hi && serial < sizeof(wanted); serial++)
                wanted[serial] = 1;
        }
        put_section(&section, i % 3 == 0 ? 0x22 : 0x21, buf_bytes(&body));
    }
    put_section(&list, 1, buf_bytes(&section));
    revoked = revoked_parse(buf_bytes(&list), &why);
    assert_null(why);
    for (uint64_t serial = 0; serial < sizeof(wanted); serial++)
        assert_int_equal(has_certificate(revoked, (struct issued){.serial = serial}),
                         wanted[serial]);
    revoked_free(&revoked);
    buf_clear(&body);
    buf_clear(&section);
    buf_clear(&list);
}

/* ---- plain lists */

static void plain_lists_name_keys(void **state)
{
    static const struct {
        const char *text;
        bool a, b, c;
    } cases[] = {
        {"ssh-ed25519 " KEY_A "\n", true, false, false},
        {"ssh-ed25519 " KEY_A, true, false, false},
        {"# no more\n\n \tssh-ed25519\t " KEY_A " comment\nssh-ed25519 " KEY_B "\n", true, true,
         false},
        {"ssh-ed25519 " KEY_A "\r\n\r\nssh-ed25519 " KEY_B " x\r\n", true, true, false},
        {"ssh-dss AAAAB3NzaC1kc3M=\nssh-ed25519 " KEY_B "\n", false, true, false},
        /* The certificate's key, as with OpenSSH. */
        {"ssh-ed25519-cert-v01@openssh.com " CERTIFICATE_A "\n", true, false, false},
        {"# ssh-ed25519 " KEY_A "\n", false, false, false},
        {"\n", false, false, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *why;
        struct revoked *revoked = revoked_parse(bytes_of_string(cases[i].text), &why);

        if (why != NULL)
            fail_msg("case %zu: %s", i, why);
        assert_int_equal(has_key(revoked, KEY_A), cases[i].a);
        assert_int_equal(has_key(revoked, KEY_B), cases[i].b);
        assert_int_equal(has_key(revoked, KEY_C), cases[i].c);
        assert_int_equal(has_certificate(revoked, (struct issued){.key = KEY_A}), cases[i].a);
        assert_int_equal(has_certificate(revoked, (struct issued){.ca = KEY_A}), cases[i].a);
        revoked_free(&revoked);
    }
}

static void plain_lists_that_are_not_revoke_everything(void **state)
{
    static const struct {
        struct bytes text;
        const char *why;
    } cases[] = {
        {BYTES("x"), "not a public key"},
        {BYTES("SSHKRL\n"), "not a public key"},
        {BYTES("ssh-ed25519"), "not a public key"},
        {BYTES("ssh-ed25519 x"), "not a public key"},
        {BYTES("ssh-rsa " KEY_A), "not a public key"},
        {BYTES("ssh-ed25519 " KEY_A "="), "not a public key"},
        {BYTES("no-pty ssh-ed25519 " KEY_A), "not a public key"},
        {BYTES("ssh-ed25519 " KEY_A "\nSHA256:abc\n"), "not a public key"},
        {BYTES("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAAA=="), "malformed"}, /* no point */
        {BYTES("ssh-ed25519-cert-v01@openssh.com "
               "AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29t"),
         "malformed"},
        {BYTES("ssh-ed25519 " KEY_A " \0\n"), "NUL"},
        {BYTES("\0"), "NUL"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *why = problem_of(cases[i].text);

        if (why == NULL || strstr(why, cases[i].why) == NULL)
            fail_msg("case %zu: %s", i, why ? why : "no problem");
    }
}

/* ---- size */

#define MANY 130000 /* serial numbers fill 1 MiB */

/* Every second one, up or down. */
static struct buf many_serials(bool upwards)
{
    struct buf body = {0}, list;

    for (uint64_t i = 1; i <= MANY; i++)
        put_u64(&body, 2 * (upwards ? i : MANY + 1 - i));
    list = with_certificates(0x20, buf_bytes(&body));
    assert_true(list.len <= REVOKED_MAX_BYTES);
    buf_clear(&body);
    return list;
}

static void long_lists_are_searched_in_order_or_not(void **state)
{
    (void)state;
    for (int upwards = 0; upwards < 2; upwards++) {
        struct buf list = many_serials(upwards);
        const char *why;
        struct revoked *revoked = revoked_parse(buf_bytes(&list), &why);

        assert_null(why);
        for (uint64_t serial = 0; serial < 2 * MANY + 10; serial += upwards ? 7 : 2003)
            assert_int_equal(has_certificate(revoked, (struct issued){.serial = serial}),
                             serial > 0 && serial <= 2 * MANY && serial % 2 == 0);
        revoked_free(&revoked);
        buf_clear(&list);
    }
}

static void a_list_that_is_too_long_revokes_everything(void **state)
{
    struct buf list = many_serials(true);

    (void)state;
    while (list.len <= REVOKED_MAX_BYTES)
        buf_put_u8(&list, 0);
    assert_problem(&list, "too long");
}

static void a_bitmap_of_a_million_bits_is_one_entry(void **state)
{
    struct buf body = {0}, bitmap = {0}, list;
    struct revoked *revoked;
    const char *why;

    (void)state;
    buf_put_u8(&bitmap, 0);
    for (size_t i = 0; i < 1000000; i++)
        buf_put_u8(&bitmap, 0xaa);
    put_u64(&body, 100);
    buf_put_string(&body, buf_bytes(&bitmap));
    list = with_certificates(0x22, buf_bytes(&body));
    revoked = revoked_parse(buf_bytes(&list), &why);
    assert_null(why);
    assert_false(has_certificate(revoked, (struct issued){.serial = 99}));
    assert_false(has_certificate(revoked, (struct issued){.serial = 100}));
    assert_true(has_certificate(revoked, (struct issued){.serial = 101}));
    assert_true(has_certificate(revoked, (struct issued){.serial = 8000099}));
    assert_false(has_certificate(revoked, (struct issued){.serial = 8000100}));
    assert_false(has_certificate(revoked, (struct issued){.serial = UINT64_MAX}));
    revoked_free(&revoked);
    buf_clear(&bitmap);
    buf_clear(&body);
    buf_clear(&list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_revoked_by_blob_and_fingerprint),
        cmocka_unit_test(certificates_are_revoked_by_serial_and_id),
        cmocka_unit_test(bits_of_a_bitmap_are_serials),
        cmocka_unit_test(no_list_revokes_nothing),
        cmocka_unit_test(sections_are_understood_or_revoke_everything),
        cmocka_unit_test(sections_of_certificates_are_understood_or_revoke_everything),
        cmocka_unit_test(a_list_that_is_cut_revokes_everything),
        cmocka_unit_test(serial_zero_is_one_like_any_other),
        cmocka_unit_test(overlapping_ranges_are_all_looked_at),
        cmocka_unit_test(plain_lists_name_keys),
        cmocka_unit_test(plain_lists_that_are_not_revoke_everything),
        cmocka_unit_test(long_lists_are_searched_in_order_or_not),
        cmocka_unit_test(a_list_that_is_too_long_revokes_everything),
        cmocka_unit_test(a_bitmap_of_a_million_bits_is_one_entry),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
