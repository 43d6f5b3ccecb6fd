#include "unit/endpoints/login_world.h"

#include "base/alloc.h"
#include "base/log.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static bool on_message(void *owner, uint8_t type, struct bytes message)
{
    struct login_world *s = owner;

    return login_message(s->login, type, message);
}

static void on_keys(void *owner)
{
    (void)owner;
}

static const struct transport_events transport_events = {.keys_exchanged = on_keys,
                                                         .message = on_message};

static void on_done(void *owner, uint32_t code, const char *why)
{
    struct login_world *s = owner;

    s->ends++;
    s->code = code;
    s->why = why ? xstrdup(why) : NULL;
    s->how = xstrdup(login_how(s->login));
    hop_forget_credential(&s->hop); /* as the link does */
}

static int client_agent(void *owner)
{
    struct login_world *s = owner;
    int pair[2];

    s->agent_taken = true;
    if (s->agent < 0)
        return -1;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    s->agent = pair[1];
    return pair[0];
}

int login_world_set_up(void **state)
{
    struct login_world *s = xcalloc(1, sizeof(*s));

    s->loop = loop_new();
    s->agent = -1;
    s->t = fake_client_new(&transport_events, s);
    fake_exchange_keys(s->t);
    *state = s;
    return 0;
}

void login_turn(struct login_world *s)
{
    for (int i = 0; i < 4; i++)
        event_base_loop(loop_events(s->loop), EVLOOP_NONBLOCK);
}

int login_world_tear_down(void **state)
{
    struct login_world *s = *state;

    login_free(&s->login);
    login_turn(s);
    transport_free(&s->t);
    hop_clear(&s->hop);
    if (s->agent > 0)
        close(s->agent);
    loop_free(&s->loop);
    assert_int_equal(fake_transports_alive(), 0);
    assert_int_equal(fake_private_keys_alive(), 0);
    free(s->why);
    free(s->how);
    free(s);
    return 0;
}

/* ---- the answer's hop */

static Policy__UpstreamHop hop_of(void)
{
    Policy__UpstreamHop hop = POLICY__UPSTREAM_HOP__INIT;

    hop.host = "gw.example.org";
    hop.user = "alice";
    hop.known_hosts = (ProtobufCBinaryData){1, (uint8_t *)"#"};
    return hop;
}

static void start(struct login_world *s, const Policy__UpstreamHop *answer)
{
    struct login_start begin = {
        .transport = s->t,
        .loop = s->loop,
        .hop = &s->hop,
        .agent = client_agent,
        .agent_owner = s,
    };
    const char *why;

    assert_true(hop_init(&s->hop, answer, "somebody", &why));
    s->login = login_new(&begin, on_done, s);
    assert_true(fake_sent_is(s->t, 5, "s", "ssh-userauth"));
    assert_int_equal(fake_sent_waiting(s->t), 0);
}

void login_start_password(struct login_world *s)
{
    Policy__UpstreamHop hop = hop_of();

    hop.credential_case = POLICY__UPSTREAM_HOP__CREDENTIAL_PASSWORD;
    hop.password = "tiger";
    start(s, &hop);
}

void login_start_key_text(struct login_world *s, const char *text, struct bytes certificate)
{
    Policy__UpstreamHop hop = hop_of();

    hop.credential_case = POLICY__UPSTREAM_HOP__CREDENTIAL_PRIVATE_KEY;
    hop.private_key = (ProtobufCBinaryData){strlen(text), (uint8_t *)text};
    hop.certificate = (ProtobufCBinaryData){certificate.len, (uint8_t *)certificate.data};
    start(s, &hop);
}

void login_start_agent(struct login_world *s, bool there)
{
    Policy__UpstreamHop hop = hop_of();

    s->agent = there ? 0 : -1;
    hop.credential_case = POLICY__UPSTREAM_HOP__CREDENTIAL_CLIENT_AGENT;
    start(s, &hop);
}

void login_accept_service(struct login_world *s)
{
    fake_deliver(s->t, 6, "s", "ssh-userauth");
}

void login_expect_end(struct login_world *s, uint32_t code, const char *why)
{
    assert_int_equal(s->ends, 1);
    assert_int_equal(s->code, code);
    if (why == NULL)
        assert_null(s->why);
    else
        assert_string_equal(s->why, why);
    assert_int_equal(fake_sent_waiting(s->t), 0);
}

void login_expect_password(struct login_world *s)
{
    assert_true(fake_sent_is(s->t, 50, "sssbs", "alice", "ssh-connection", "password", 0, "tiger"));
}
