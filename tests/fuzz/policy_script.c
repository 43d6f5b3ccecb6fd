#include "fuzz/policy_script.h"

#include <string.h>

/* ---- answers, by kind of question */

struct choice {
    struct bytes *feed;
    bool yes;        /* the answer allows */
    bool conditions; /* with restrictions or a lifetime */
    bool common;     /* with banner, state, or disconnect */
};

struct answer_parts {
    Policy__Common common;
    Policy__Banner banner;
    Policy__Disconnect disconnect;
    Policy__Allow allow;
    Policy__Deny deny;
    Policy__PartialSuccess partial;
    Policy__AuthMethod methods[2];
    Policy__Restrictions restrictions;
    Policy__Patterns patterns;
    char *pattern_list[2];
    Policy__EnvVar variable, *variables[1];
    Policy__Limits limits;
};

static void fill_restrictions(struct answer_parts *p, struct bytes *feed)
{
    static char *const patterns[] = {"192.0.2.0/24", "!192.0.2.7", "0.0.0.0/0", "x/9", "", "::/0"};
    uint8_t bits = feed_u8(feed);

    policy__restrictions__init(&p->restrictions);
    policy__patterns__init(&p->patterns);
    policy__env_var__init(&p->variable);
    p->pattern_list[0] = patterns[feed_below(feed, 6)];
    p->pattern_list[1] = patterns[feed_below(feed, 6)];
    p->patterns.patterns = p->pattern_list;
    p->patterns.n_patterns = bits & 3 ? bits & 1 : 2;
    if (bits & 4)
        p->restrictions.source_addresses = &p->patterns;
    p->restrictions.no_pty = (bits & 8) != 0;
    p->restrictions.verify_required = (bits & 128) != 0;
    if (bits & 16) {
        p->restrictions.forced_case = POLICY__RESTRICTIONS__FORCED_FORCE_COMMAND;
        p->restrictions.force_command =
            (ProtobufCBinaryData){1, (uint8_t *)(bits & 32 ? "a" : "b")};
    }
    p->variable.name = (ProtobufCBinaryData){1, (uint8_t *)"E"};
    p->variables[0] = &p->variable;
    p->restrictions.environment = p->variables;
    p->restrictions.n_environment = (bits & 64) != 0;
}

static void fill(struct answer_parts *p, struct choice *c)
{
    uint8_t bits = c->common ? feed_u8(c->feed) : 0;

    memset(p, 0, sizeof(*p));
    policy__common__init(&p->common);
    policy__banner__init(&p->banner);
    policy__disconnect__init(&p->disconnect);
    policy__allow__init(&p->allow);
    policy__deny__init(&p->deny);
    policy__partial_success__init(&p->partial);
    policy__limits__init(&p->limits);
    p->banner.text = bits & 8 ? "banner\n" : "x";
    p->deny.message = bits & 16 ? "no" : "";
    if (bits & 1)
        p->common.banner = &p->banner;
    if (bits & 2) {
        p->common.new_state_case = POLICY__COMMON__NEW_STATE_STATE;
        p->common.state = (ProtobufCBinaryData){1, (uint8_t *)"s"};
    }
    if ((bits & 0xe4) == 0xe4)
        p->common.disconnect = &p->disconnect;
    if (c->conditions) {
        fill_restrictions(p, c->feed);
        p->allow.restrictions = p->partial.restrictions = &p->restrictions;
        if (feed_u8(c->feed) & 1) {
            p->allow.lifetime_case = POLICY__ALLOW__LIFETIME_EXPIRES_IN_S;
            p->allow.expires_in_s = feed_u8(c->feed);
        }
    }
    p->methods[0] = feed_below(c->feed, 8);
    p->methods[1] = feed_below(c->feed, 8);
}

static void answer_begin(struct control *control, size_t index, struct choice *c)
{
    struct answer_parts p;
    Policy__BeginAuthAnswer answer = POLICY__BEGIN_AUTH_ANSWER__INIT;
    Policy__Methods methods = POLICY__METHODS__INIT, required = POLICY__METHODS__INIT;
    Policy__Methods *sets[] = {&required, &methods};
    uint8_t bits = feed_u8(c->feed);

    fill(&p, c);
    answer.common = &p.common;
    methods.methods = (Policy__AuthMethod[]){FAKE_PUBLICKEY, FAKE_KBDINT, FAKE_PASSWORD};
    methods.n_methods = bits & 2 ? 1 : 3;
    answer.tie_kbdint_to_password = (bits & 0x10) != 0;
    if (bits & 1)
        answer.methods = &methods;
    required.methods = p.methods;
    required.n_methods = bits & 4 ? 1 : 2;
    answer.required = sets;
    answer.n_required = bits >> 6 == 3 ? 1 + ((bits & 8) != 0) : 0;
    if (c->yes)
        answer.requirement = POLICY__REQUIREMENT__REQUIREMENT_NOT_REQUIRED;
    if ((bits & 0x38) == 0x38)
        answer.revoked_keys = (ProtobufCBinaryData){1, (uint8_t *)"k"};
    fake_answer_nth(control, index, &answer.base);
}

static void answer_supported(struct control *control, size_t index, struct choice *c)
{
    Policy__SupportedAnswer answer = POLICY__SUPPORTED_ANSWER__INIT;

    answer.support = feed_below(c->feed, 4);
    fake_answer_nth(control, index, &answer.base);
}

static void answer_session(struct control *control, size_t index, struct choice *c)
{
    struct answer_parts p;
    Policy__SessionAnswer answer = POLICY__SESSION_ANSWER__INIT;
    Policy__Accept accept = POLICY__ACCEPT__INIT;
    Policy__StreamEndpoint stream = POLICY__STREAM_ENDPOINT__INIT;
    Policy__Refuse refuse = POLICY__REFUSE__INIT;
    Policy__ChannelOptions options = POLICY__CHANNEL_OPTIONS__INIT;
    uint8_t bits = feed_u8(c->feed);

    fill(&p, c);
    answer.common = &p.common;
    stream.target = bits & 4 ? "unknown" : "";
    refuse.reason = bits & 8 ? "because" : "";
    options.window_bytes = feed_u8(c->feed);
    options.max_packet_bytes = feed_u8(c->feed);
    if (bits & 2)
        answer.options = &options;
    if (!c->yes) {
        answer.endpoint_case = POLICY__SESSION_ANSWER__ENDPOINT_REFUSE;
        answer.refuse = &refuse;
    } else if (bits & 1) {
        answer.endpoint_case = POLICY__SESSION_ANSWER__ENDPOINT_ACCEPT;
        answer.accept = &accept;
    } else {
        answer.endpoint_case = POLICY__SESSION_ANSWER__ENDPOINT_STREAM;
        answer.stream = &stream;
    }
    fake_answer_nth(control, index, &answer.base);
}

/* Answers whose oneof has the same members. */
#define GIVE(type, TYPE)                                                                           \
    do {                                                                                           \
        Policy__##type answer = POLICY__##TYPE##__INIT;                                            \
        answer.common = &p.common;                                                                 \
        answer.outcome_case =                                                                      \
            c->yes ? POLICY__##TYPE##__OUTCOME_ALLOW : POLICY__##TYPE##__OUTCOME_DENY;             \
        if (c->yes)                                                                                \
            answer.allow = &p.allow;                                                               \
        else                                                                                       \
            answer.deny = &p.deny;                                                                 \
        fake_answer_nth(control, index, &answer.base);                                             \
    } while (0)

static void answer_outcome(struct control *control, size_t index, struct choice *c)
{
    struct answer_parts p;

    fill(&p, c);
    switch (fake_pending_rpc(control, index)) {
    case RPC_CONNECTION_MADE:
        GIVE(ConnectionMadeAnswer, CONNECTION_MADE_ANSWER);
        break;
    case RPC_AUTH_COMPLETED:
        GIVE(AuthCompletedAnswer, AUTH_COMPLETED_ANSWER);
        break;
    case RPC_VALIDATE_PUBLIC_KEY:
    case RPC_VALIDATE_CA_KEY:
    case RPC_VALIDATE_HOST_PUBLIC_KEY:
    case RPC_VALIDATE_HOST_CA_KEY:
    case RPC_VALIDATE_HOST_BASED_USER:
    case RPC_VALIDATE_GSS_PRINCIPAL:
        GIVE(AuthAnswer, AUTH_ANSWER);
        break;
    case RPC_VALIDATE_PASSWORD:
    case RPC_CHANGE_PASSWORD:
        GIVE(PasswordAnswer, PASSWORD_ANSWER);
        break;
    case RPC_GET_KBDINT_CHALLENGE:
    case RPC_VALIDATE_KBDINT_RESPONSE:
        GIVE(KbdintAnswer, KBDINT_ANSWER);
        break;
    default:
        GIVE(GrantAnswer, GRANT_ANSWER);
    }
}

static bool is_dialogue(enum rpc rpc)
{
    return rpc == RPC_GET_KBDINT_CHALLENGE || rpc == RPC_VALIDATE_KBDINT_RESPONSE;
}

static bool is_about_key(enum rpc rpc)
{
    return rpc == RPC_VALIDATE_PUBLIC_KEY || rpc == RPC_VALIDATE_CA_KEY;
}

static bool is_about_host(enum rpc rpc)
{
    return rpc == RPC_VALIDATE_HOST_PUBLIC_KEY || rpc == RPC_VALIDATE_HOST_CA_KEY;
}

/* Their default may allow. */
static bool is_about_principal(enum rpc rpc)
{
    return rpc == RPC_VALIDATE_HOST_BASED_USER || rpc == RPC_VALIDATE_GSS_PRINCIPAL;
}

static void answer_partial(struct control *control, size_t index, struct choice *c)
{
    struct answer_parts p;
    Policy__AuthAnswer key = POLICY__AUTH_ANSWER__INIT;
    Policy__PasswordAnswer password = POLICY__PASSWORD_ANSWER__INIT;
    Policy__KbdintAnswer kbdint = POLICY__KBDINT_ANSWER__INIT;
    Policy__PasswordChange change = POLICY__PASSWORD_CHANGE__INIT;

    fill(&p, c);
    p.partial.remaining = p.methods;
    p.partial.n_remaining = 2;
    if (is_about_key(fake_pending_rpc(control, index)) ||
        is_about_host(fake_pending_rpc(control, index)) ||
        is_about_principal(fake_pending_rpc(control, index))) {
        key.outcome_case = POLICY__AUTH_ANSWER__OUTCOME_PARTIAL;
        key.partial = &p.partial;
        fake_answer_nth(control, index, &key.base);
    } else if (is_dialogue(fake_pending_rpc(control, index))) {
        kbdint.outcome_case = POLICY__KBDINT_ANSWER__OUTCOME_PARTIAL;
        kbdint.partial = &p.partial;
        fake_answer_nth(control, index, &kbdint.base);
    } else if (c->conditions) {
        password.outcome_case = POLICY__PASSWORD_ANSWER__OUTCOME_PARTIAL;
        password.partial = &p.partial;
        fake_answer_nth(control, index, &password.base);
    } else {
        password.outcome_case = POLICY__PASSWORD_ANSWER__OUTCOME_CHANGE_REQUIRED;
        password.change_required = &change;
        fake_answer_nth(control, index, &password.base);
    }
}

/* ---- choosing one */

static bool is_credential(enum rpc rpc)
{
    return is_about_key(rpc) || rpc == RPC_VALIDATE_PASSWORD || rpc == RPC_CHANGE_PASSWORD ||
           is_dialogue(rpc) || is_about_host(rpc) || is_about_principal(rpc);
}

static bool is_probe(enum rpc rpc, const ProtobufCMessage *question)
{
    if (is_about_host(rpc))
        return true; /* its signature is not looked at yet */
    if (rpc == RPC_VALIDATE_CA_KEY)
        return ((const Policy__ValidateCaKeyRequest *)question)->use->phase ==
               POLICY__KEY_PHASE__KEY_PHASE_PROBE;
    return rpc == RPC_VALIDATE_PUBLIC_KEY &&
           ((const Policy__ValidatePublicKeyRequest *)question)->use->phase ==
               POLICY__KEY_PHASE__KEY_PHASE_PROBE;
}

static void answer(struct control *control, size_t index, enum rpc rpc, struct choice *c)
{
    switch (rpc) {
    case RPC_BEGIN_AUTH:
        answer_begin(control, index, c);
        break;
    case RPC_HOST_BASED_AUTH_SUPPORTED:
    case RPC_PUBLIC_KEY_AUTH_SUPPORTED:
    case RPC_PASSWORD_AUTH_SUPPORTED:
    case RPC_KBDINT_AUTH_SUPPORTED:
        answer_supported(control, index, c);
        break;
    case RPC_SESSION_REQUESTED:
    case RPC_SHELL_REQUESTED:
    case RPC_EXEC_REQUESTED:
    case RPC_SUBSYSTEM_REQUESTED:
        answer_session(control, index, c);
        break;
    default:
        answer_outcome(control, index, c);
    }
}

void script_answer(struct control *control, struct bytes *feed, bool may_allow, verdict_fn *tell,
                   void *arg)
{
    size_t pending = fake_pending(control), index;
    uint8_t how = feed_u8(feed);
    struct choice c = {feed, (how & 3) != 0, (how & 4) != 0, (how & 8) != 0};
    const ProtobufCMessage *question;
    enum rpc rpc;

    if (pending == 0)
        return;
    index = (how >> 6) % pending;
    rpc = fake_pending_rpc(control, index);
    question = fake_nth_question(control, index);
    if (!may_allow && !is_probe(rpc, question))
        c.yes = false;
    if ((how & 0x30) == 0x30) {
        static const enum outcome outcomes[] = {ABSENT, UNAVAILABLE, EXPIRED};
        enum outcome outcome = outcomes[how % 3];
        bool allows; /* by default */

        if (!may_allow && is_about_principal(rpc) && outcome == ABSENT)
            outcome = UNAVAILABLE;
        allows = outcome == ABSENT && (rpc == RPC_AUTH_COMPLETED || is_about_principal(rpc));
        tell(arg, rpc, question, allows ? VERDICT_YES : VERDICT_NO);
        fake_fail_nth(control, index, outcome);
    } else if ((how & 0x30) == 0x20 && is_credential(rpc)) {
        tell(arg, rpc, question, VERDICT_PART);
        if (is_dialogue(rpc) && !c.conditions)
            fake_challenge(control, rpc, feed_below(feed, 70));
        else
            answer_partial(control, index, &c);
    } else {
        tell(arg, rpc, question, c.yes ? VERDICT_YES : VERDICT_NO);
        answer(control, index, rpc, &c);
    }
}

void script_death(struct control *control)
{
    struct stream *stream;
    size_t index = 0;

    while (fake_pending(control) > 0)
        fake_fail_nth(control, 0, UNAVAILABLE);
    while ((stream = fake_stream(control, index)) != NULL) {
        size_t before = fake_streams_closed(control);

        if (!fake_stream_told_end(stream))
            fake_stream_fail_now(stream, UNAVAILABLE, "the link is down");
        if (fake_streams_closed(control) == before)
            index++; /* an action of it is still in the channel's hands */
    }
}

/* ---- streams */

static void push_action(struct stream *stream, struct bytes *feed, uint8_t kind)
{
    static uint8_t payload[3000];
    size_t len = feed_u8(feed);

    switch (kind) {
    case 0:
        fake_push_data(stream, bytes_of(payload, len * (len & 1 ? 11 : 1)), len & 3 ? 0 : 1);
        break;
    case 1:
        fake_push_eof(stream);
        break;
    case 2:
        fake_push_exit(stream, (uint32_t)len);
        break;
    default:
        fake_push_break_answer(stream, (uint32_t)(len & 7), (len & 8) != 0);
    }
}

void script_stream(struct control *control, struct bytes *feed)
{
    size_t count = fake_streams(control);
    uint8_t how = feed_u8(feed);
    struct stream *stream;

    if (count == 0)
        return;
    stream = fake_stream(control, (how >> 4) % count);
    switch (how & 7) {
    case 4:
        fake_stream_turn(stream);
        break;
    case 5:
        if (!fake_stream_is_ending(stream))
            fake_stream_end(stream, how & 8 ? ANSWERED : EXPIRED, "why");
        break;
    case 6:
        fake_stream_read(stream, fake_stream_queued(stream) / (how & 8 ? 1 : 2));
        break;
    case 7:
        fake_stream_set_room(stream, feed_u8(feed));
        break;
    default:
        if (!fake_stream_is_ending(stream) && fake_stream_unread(stream) < 16)
            push_action(stream, feed, how & 3);
    }
}
