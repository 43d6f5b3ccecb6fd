/* Answers as bytes: what is let through, and the words for what is not. */
#include "control/codec.h"
#include "control/scan.h"

#include "base/alloc.h"

#include "../cmocka_unit.h"

#include <stdlib.h>
#include <string.h>

struct row {
    const ProtobufCMessageDescriptor *type;
    struct bytes wire;
    const char *why; /* NULL: fine */
};

#define PASSWORD (&policy__password_answer__descriptor)
#define ACTION   (&policy__channel_action__descriptor)
#define BEGIN    (&policy__begin_auth_answer__descriptor)
#define SESSION  (&policy__session_answer__descriptor)
#define ACK      (&policy__ack__descriptor)

static const struct row rows[] = {
    /* the plainest */
    {PASSWORD, BYTES("\x12\x00"), NULL},
    {PASSWORD, BYTES("\x1a\x04\x0a\x02no"), NULL},
    {ACK, BYTES(""), NULL},
    {BEGIN, BYTES(""), NULL},
    {PASSWORD, BYTES("\x12\x04\x0a\x02\x28\x01"), NULL}, /* allow.restrictions.no_pty */
    /* numbers may be longer than they need be, within a varint's ten bytes */
    {PASSWORD, BYTES("\x12\x81\x00\x00"), "PasswordAnswer.allow: malformed"},
    {PASSWORD, BYTES("\x12\x80\x00"), NULL},
    /* unset is no */
    {PASSWORD, BYTES(""), "PasswordAnswer: none of allow|deny|partial|change_required is set"},
    {PASSWORD, BYTES("\x0a\x00"),
     "PasswordAnswer: none of allow|deny|partial|change_required is set"},
    {ACTION, BYTES(""),
     "ChannelAction: none of data|eof|exit_status|exit_signal|client_flow_control|break_answer "
     "is set"},
    /* an unset oneof further down: SessionAnswer.upstream.hops.credential */
    {SESSION, BYTES("\x32\x02\x0a\x00"),
     "SessionAnswer.upstream.hops: none of password|private_key|client_agent is set"},
    {SESSION, BYTES("\x32\x04\x0a\x02\x3a\x00"), NULL},
    {SESSION, BYTES("\x12\x00\x42\x00"), "SessionAnswer.recording: none of stream|file is set"},
    /* two members, or one twice */
    {PASSWORD, BYTES("\x12\x00\x1a\x00"),
     "PasswordAnswer: more than one of allow|deny|partial|change_required is set"},
    {PASSWORD, BYTES("\x12\x00\x12\x00"), "PasswordAnswer.allow: comes twice"},
    {PASSWORD, BYTES("\x12\x04\x10\x05\x10\x06"), "PasswordAnswer.allow.expires_in_s: comes twice"},
    {PASSWORD, BYTES("\x0a\x00\x0a\x00\x12\x00"), "PasswordAnswer.common: comes twice"},
    /* unknown fields: only Common has room for later ones */
    {PASSWORD, BYTES("\x12\x00\x30\x01"), "PasswordAnswer: unknown field 6"},
    {PASSWORD, BYTES("\x12\x05\x0a\x03\x98\x06\x01"),
     "PasswordAnswer.allow.restrictions: unknown field 99"},
    {PASSWORD, BYTES("\x0a\x03\x98\x06\x01\x12\x00"), NULL},
    {PASSWORD, BYTES("\x0a\x05\x9a\x06\x02\xff\xff\x12\x00"), NULL}, /* not a string we know */
    {PASSWORD, BYTES("\x0a\x05\x12\x03\x98\x06\x01\x12\x00"),
     "PasswordAnswer.common.disconnect: unknown field 99"},
    {PASSWORD, BYTES("\x0a\x03\x9b\x06\x01\x12\x00"), "PasswordAnswer.common: malformed"},
    /* strings */
    {PASSWORD, BYTES("\x1a\x05\x0a\x03n\0o"),
     "PasswordAnswer.deny.message: not UTF-8, or with a NUL"},
    {PASSWORD, BYTES("\x1a\x03\x0a\x01\xff"),
     "PasswordAnswer.deny.message: not UTF-8, or with a NUL"},
    {PASSWORD, BYTES("\x1a\x04\x0a\x02\xc0\x80"),
     "PasswordAnswer.deny.message: not UTF-8, or with a NUL"},
    {PASSWORD, BYTES("\x1a\x05\x0a\x03\xed\xa0\x80"),
     "PasswordAnswer.deny.message: not UTF-8, or with a NUL"},
    {PASSWORD, BYTES("\x1a\x04\x0a\x02\xc3\xa4"), NULL},
    {PASSWORD, BYTES("\x0a\x08\x22\x06\x0a\x01k\x12\x01\xff\x12\x00"),
     "PasswordAnswer.common.log.value: not UTF-8, or with a NUL"},
    {PASSWORD, BYTES("\x0a\x08\x22\x06\x0a\x01\0\x12\x01v\x12\x00"),
     "PasswordAnswer.common.log.key: not UTF-8, or with a NUL"},
    /* restrictions.source_addresses.patterns, repeated */
    {PASSWORD, BYTES("\x12\x09\x0a\x07\x12\x05\x0a\x03\x61\xff\x62"),
     "PasswordAnswer.allow.restrictions.source_addresses.patterns: not UTF-8, or with a NUL"},
    /* `bytes` may hold anything */
    {PASSWORD, BYTES("\x12\x06\x0a\x04\x0a\x02\0\xff"), NULL},
    /* enums: singular, repeated, packed */
    {BEGIN, BYTES("\x10\x01"), NULL},
    {BEGIN, BYTES("\x10\x00"), NULL},
    {BEGIN, BYTES("\x10\x63"), "BeginAuthAnswer.requirement: unknown value 99"},
    {BEGIN, BYTES("\x10\x82\x80\x80\x80\x10"),
     "BeginAuthAnswer.requirement: unknown value 4294967298"},
    {BEGIN, BYTES("\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
     "BeginAuthAnswer.requirement: unknown value 18446744073709551615"},
    {BEGIN, BYTES("\x1a\x04\x08\x01\x08\x02"), NULL},
    {BEGIN, BYTES("\x1a\x04\x08\x01\x08\x63"), "BeginAuthAnswer.methods.methods: unknown value 99"},
    {BEGIN, BYTES("\x1a\x04\x0a\x02\x01\x02"), NULL},
    {BEGIN, BYTES("\x1a\x04\x0a\x02\x01\x63"), "BeginAuthAnswer.methods.methods: unknown value 99"},
    {BEGIN, BYTES("\x1a\x03\x0a\x01\x80"), "BeginAuthAnswer.methods.methods: malformed"},
    /* wire types */
    {PASSWORD, BYTES("\x10\x01"), "PasswordAnswer.allow: wrong wire type 0"},
    {PASSWORD, BYTES("\x15\x01\x02\x03\x04"), "PasswordAnswer.allow: wrong wire type 5"},
    {PASSWORD, BYTES("\x11\x01\x02\x03\x04\x05\x06\x07\x08"),
     "PasswordAnswer.allow: wrong wire type 1"},
    {PASSWORD, BYTES("\x13\x14"), "PasswordAnswer: malformed"}, /* a group */
    {PASSWORD, BYTES("\x16\x14"), "PasswordAnswer: malformed"},
    {BEGIN, BYTES("\x12\x01\x01"), "BeginAuthAnswer.requirement: wrong wire type 2"},
    /* cut off, and what is no field at all */
    {PASSWORD, BYTES("\x12"), "PasswordAnswer: malformed"},
    {PASSWORD, BYTES("\x12\x01"), "PasswordAnswer: malformed"},
    {PASSWORD, BYTES("\x12\x02\x0a\x01"), "PasswordAnswer.allow: malformed"},
    {PASSWORD, BYTES("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "PasswordAnswer: malformed"},
    {PASSWORD, BYTES("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
     "PasswordAnswer: malformed"},
    {PASSWORD, BYTES("\x02\x00"), "PasswordAnswer: malformed"},                     /* field 0 */
    {PASSWORD, BYTES("\x92\x80\x80\x80\x80\x00\x00"), "PasswordAnswer: malformed"}, /* long tag */
    {PASSWORD, BYTES("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80"), "PasswordAnswer: malformed"},
    /* numbers that C would cut */
    {PASSWORD, BYTES("\x12\x06\x10\x80\x80\x80\x80\x10"),
     "PasswordAnswer.allow.expires_in_s: number out of range"},
    {PASSWORD, BYTES("\x12\x06\x10\xff\xff\xff\xff\x0f"), NULL},
    {PASSWORD, BYTES("\x12\x04\x0a\x02\x28\x02"),
     "PasswordAnswer.allow.restrictions.no_pty: number out of range"},
};

static void table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *why = NULL;
        bool fine = codec_check(rows[i].type, rows[i].wire, &why);

        if (fine != (rows[i].why == NULL))
            fail_msg("row %zu: %s", i, fine ? "was let through" : why);
        if (!fine)
            assert_string_equal(why, rows[i].why);
        free(why);
    }
}

/* Common with a state of so many bytes, in an Ack. */
static bool state_is_fine(size_t len)
{
    Policy__Common common = POLICY__COMMON__INIT;
    Policy__Ack ack = POLICY__ACK__INIT;
    uint8_t *wire = xmalloc(len + 64);
    uint8_t *content = xcalloc(1, len);
    char *why = NULL;
    bool fine;

    common.new_state_case = POLICY__COMMON__NEW_STATE_STATE;
    common.state.data = content;
    common.state.len = len;
    ack.common = &common;
    fine = codec_check(ACK, bytes_of(wire, policy__ack__pack(&ack, wire)), &why);
    if (!fine)
        assert_string_equal(why, "Ack.common.state: longer than 4096 bytes");
    free(why);
    free(content);
    free(wire);
    return fine;
}

static bool banner_is_fine(size_t len)
{
    Policy__Common common = POLICY__COMMON__INIT;
    Policy__Banner banner = POLICY__BANNER__INIT;
    Policy__Ack ack = POLICY__ACK__INIT;
    uint8_t *wire = xmalloc(len + 64);
    char *why = NULL;
    bool fine;

    banner.text = xcalloc(1, len + 1);
    memset(banner.text, 'x', len);
    common.banner = &banner;
    ack.common = &common;
    fine = codec_check(ACK, bytes_of(wire, policy__ack__pack(&ack, wire)), &why);
    if (!fine)
        assert_string_equal(why, "Ack.common.banner.text: longer than 8192 bytes");
    free(why);
    free(banner.text);
    free(wire);
    return fine;
}

static void sizes(void **state)
{
    (void)state;
    assert_true(state_is_fine(4096));
    assert_false(state_is_fine(4097));
    assert_true(banner_is_fine(8192));
    assert_false(banner_is_fine(8193));
}

/* What goes out may leave a oneof unset, but no string of it may be broken. */
static void outbound(void **state)
{
    char *why = NULL;

    (void)state;
    assert_true(scan_message(PASSWORD, BYTES(""), SCAN_OUTBOUND, &why));
    assert_false(scan_message(PASSWORD, BYTES("\x1a\x03\x0a\x01\xff"), SCAN_OUTBOUND, &why));
    free(why);
}

/* No message of the contract may contain itself: the scanner has a depth limit, but protobuf-c has
 * none. */
static void walk(const ProtobufCMessageDescriptor *type, int depth)
{
    assert_true(depth < 12);
    assert_true(type->n_fields <= 64);
    for (unsigned i = 0; i < type->n_fields; i++)
        if (type->fields[i].type == PROTOBUF_C_TYPE_MESSAGE)
            walk(type->fields[i].descriptor, depth + 1);
}

static void contract_is_finite(void **state)
{
    (void)state;
    for (unsigned i = 0; i < policy__policy__descriptor.n_methods; i++) {
        walk(policy__policy__descriptor.methods[i].input, 0);
        walk(policy__policy__descriptor.methods[i].output, 0);
    }
}

/* Random and mutated bytes: whatever passes the check must unpack, and pack to something that
 * passes again. */
static uint32_t dice(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

static void check_round(const ProtobufCMessageDescriptor *type, struct bytes wire)
{
    struct arena arena;
    char *why = NULL;
    ProtobufCMessage *message = codec_decode(type, wire, 1 << 20, &arena, &why);

    if (message == NULL) {
        assert_non_null(why);
        free(why);
    } else {
        size_t len = protobuf_c_message_get_packed_size(message);
        uint8_t *again = xmalloc(len + 1);

        protobuf_c_message_pack(message, again);
        if (!codec_check(type, bytes_of(again, len), &why))
            fail_msg("packed again: %s", why);
        free(again);
    }
    arena_clear(&arena);
}

static void mutations(void **state)
{
    uint32_t seed = 1;

    (void)state;
    for (int round = 0; round < 200000; round++) {
        const struct row *row = &rows[dice(&seed) % (sizeof(rows) / sizeof(rows[0]))];
        uint8_t wire[64];
        size_t len = row->wire.len;

        memcpy(wire, row->wire.data, len);
        for (uint32_t changes = dice(&seed) % 4; changes > 0; changes--) {
            if (len > 0 && dice(&seed) % 3 != 0)
                wire[dice(&seed) % len] = (uint8_t)dice(&seed);
            else if (len < sizeof(wire))
                wire[len++] = (uint8_t)dice(&seed);
        }
        check_round(row->type, bytes_of(wire, len));
    }
}

/* A small answer may not become a large one in memory. */
static void amplification(void **state)
{
    size_t len = 1 << 20;
    uint8_t *wire = xmalloc(len);
    struct arena arena;
    char *why = NULL;

    (void)state;
    /* BeginAuthAnswer.required: half a million empty Methods */
    for (size_t i = 0; i < len; i += 2) {
        wire[i] = 0x2a;
        wire[i + 1] = 0;
    }
    assert_null(codec_decode(BEGIN, bytes_of(wire, len), len, &arena, &why));
    assert_string_equal(why, "BeginAuthAnswer: does not unpack within its limit of memory");
    free(why);
    arena_clear(&arena);
    assert_null(codec_decode(BEGIN, bytes_of(wire, 100), 99, &arena, &why));
    assert_string_equal(why, "BeginAuthAnswer: 100 bytes, at most 99 are taken");
    free(why);
    arena_clear(&arena);
    free(wire);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table),     cmocka_unit_test(sizes),
        cmocka_unit_test(outbound),  cmocka_unit_test(contract_is_finite),
        cmocka_unit_test(mutations), cmocka_unit_test(amplification),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
