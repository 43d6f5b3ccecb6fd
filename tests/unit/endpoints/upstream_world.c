#include "unit/endpoints/upstream_world.h"

#include "base/alloc.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the connection */

static bool on_message(void *owner, uint8_t type, struct bytes message)
{
    struct upstream_world *w = owner;

    return w->mux == NULL || mux_message(w->mux, type, message);
}

static void on_room(void *owner)
{
    struct upstream_world *w = owner;

    if (w->mux != NULL)
        mux_writable(w->mux);
}

static void on_keys(void *owner)
{
    (void)owner;
}

static const struct transport_events transport_events = {
    .keys_exchanged = on_keys,
    .message = on_message,
    .writable = on_room,
};

static void on_fault(void *owner, const char *why)
{
    struct upstream_world *w = owner;

    w->faults++;
    snprintf(w->fault_reason, sizeof(w->fault_reason), "%s", why);
}

static void on_alive(void *owner)
{
    ((struct upstream_world *)owner)->alive++;
}

static const struct mux_events mux_events = {on_fault, on_alive};

int world_setup(void **state)
{
    struct upstream_world *w = xcalloc(1, sizeof(*w));

    w->loop = loop_new();
    w->transport = fake_client_new(&transport_events, w);
    fake_exchange_keys(w->transport);
    transport_auth_succeeded(w->transport);
    w->mux = mux_new(w->loop, w->transport, &w->windows, &mux_events, w);
    *state = w;
    return 0;
}

int world_teardown(void **state)
{
    struct upstream_world *w = *state;

    mux_free(&w->mux, "the test is over");
    world_turn(w);
    assert_int_equal(w->windows.given, 0);
    transport_free(&w->transport);
    loop_free(&w->loop);
    free(w);
    return 0;
}

void world_turn(struct upstream_world *w)
{
    event_base_loop(loop_events(w->loop), EVLOOP_NONBLOCK);
    event_base_loop(loop_events(w->loop), EVLOOP_NONBLOCK);
}

void world_wait(struct upstream_world *w, unsigned ms)
{
    const struct timeval time = {ms / 1000, ms % 1000 * 1000};

    event_base_loopexit(loop_events(w->loop), &time);
    event_base_dispatch(loop_events(w->loop));
}

/* ---- the channel's side */

static size_t on_data(void *owner, struct bytes data, uint32_t extended_type)
{
    struct user *user = owner;
    size_t len = data.len < user->room ? data.len : user->room;

    assert_true(extended_type <= 1);
    assert_int_equal(user->eofs + user->ended + user->closed, 0);
    buf_put(extended_type ? &user->err : &user->out, bytes_of(data.data, len));
    user->room -= len;
    return len;
}

static void on_eof(void *owner)
{
    ((struct user *)owner)->eofs++;
}

static void on_deaf(void *owner)
{
    ((struct user *)owner)->deaf++;
}

static void on_status(void *owner, uint32_t status)
{
    struct user *user = owner;

    user->statuses++;
    user->status = status;
}

static void on_signal(void *owner, const Policy__ExitSignal *exit)
{
    struct user *user = owner;

    snprintf(user->signal, sizeof(user->signal), "%s %d %s %s", exit->name, exit->core_dumped,
             exit->message, exit->language);
}

static void on_flow(void *owner, bool can_do)
{
    ((struct user *)owner)->flow = can_do ? 1 : -1;
}

static void on_break(void *owner, uint32_t id, bool handled)
{
    struct user *user = owner;

    user->breaks++;
    user->break_id = id;
    user->break_handled = handled;
}

static void on_writable(void *owner, size_t taken)
{
    struct user *user = owner;

    assert_int_equal(user->ended + user->closed, 0);
    user->writables++;
    user->taken += taken;
}

static void on_ended(void *owner, bool in_order, const char *why)
{
    struct user *user = owner;

    assert_int_equal(user->ended++, 0);
    user->in_order = in_order;
    snprintf(user->why, sizeof(user->why), "%s", why);
    if (!user->keep)
        user_stop(user);
}

const struct endpoint_events user_events = {
    .data = on_data,
    .eof = on_eof,
    .deaf = on_deaf,
    .exit_status = on_status,
    .exit_signal = on_signal,
    .client_flow_control = on_flow,
    .break_answer = on_break,
    .writable = on_writable,
    .ended = on_ended,
};

static void on_opened(void *owner, struct endpoint *endpoint)
{
    struct user *user = owner;

    assert_int_equal(user->opened++ + user->refused, 0);
    user->opening = NULL;
    user->endpoint = endpoint;
}

static void on_refused(void *owner, uint32_t code, const char *reason)
{
    struct user *user = owner;

    assert_int_equal(user->opened + user->refused++, 0);
    user->opening = NULL;
    user->code = code;
    snprintf(user->reason, sizeof(user->reason), "%s", reason);
}

static void on_closed(void *owner)
{
    struct user *user = owner;

    assert_int_equal(user->opened, 1);
    assert_int_equal(user->closed++, 0);
}

const struct mux_opened_events user_opened_events = {on_opened, on_refused, on_closed};

void user_init(struct user *user, struct upstream_world *w)
{
    *user = (struct user){.world = w, .room = SIZE_MAX / 2};
}

void user_stop(struct user *user)
{
    struct endpoint *endpoint = user->endpoint;

    user->endpoint = NULL;
    endpoint->ops->stop(endpoint, NULL);
}

void user_clear(struct user *user)
{
    assert_null(user->endpoint);
    assert_int_equal(user->closed, user->opened);
    buf_clear(&user->out);
    buf_clear(&user->err);
}

size_t user_write(struct user *user, struct bytes data)
{
    return user->endpoint->ops->write(user->endpoint, data, 0);
}

void user_resume(struct user *user, size_t room)
{
    user->room = room;
    user->endpoint->ops->resume(user->endpoint);
}

void expect_text(const struct buf *seen, const char *text)
{
    assert_int_equal(seen->len, strlen(text));
    if (seen->len > 0)
        assert_memory_equal(seen->data, text, seen->len);
}

/* ---- steps */

void ask_direct(struct user *user, uint32_t id)
{
    static const struct upstream_target target = {
        .host = "db", .port = 5432, .origin_host = "10.0.0.1", .origin_port = 1234};
    struct upstream_world *w = user->world;
    struct fake_message sent;

    user->opening = mux_open_direct(w->mux, &target, &user_events, user, &user_opened_events, user);
    assert_true(fake_sent(w->transport, &sent));
    assert_int_equal(sent.type, OPEN);
    assert_int_equal(sent.rest.data[4 + sizeof("direct-tcpip") - 1 + 3], id & 0xff);
}

static void confirm(struct user *user, uint32_t id)
{
    deliver(user->world, CONFIRMATION, "uuuu", id, THEIRS + id, THEIR_WINDOW, THEIR_PACKET);
    assert_int_equal(user->opened, 1);
}

void open_direct(struct user *user, uint32_t id)
{
    ask_direct(user, id);
    confirm(user, id);
}

void open_exec(struct user *user, uint32_t id)
{
    Policy__SessionStart session = POLICY__SESSION_START__INIT;
    Policy__ExecProgram exec = POLICY__EXEC_PROGRAM__INIT;
    struct upstream_world *w = user->world;
    struct fake_message sent;
    struct buf encoded = {0};

    exec.command = (ProtobufCBinaryData){.len = 3, .data = (uint8_t *)"run"};
    session.program_case = POLICY__SESSION_START__PROGRAM_EXEC;
    session.exec = &exec;
    mux_encode_session(&session, &encoded);
    user->opening = mux_open_session(w->mux, buf_bytes(&encoded), &user_events, user,
                                     &user_opened_events, user);
    buf_clear(&encoded);
    assert_true(fake_sent(w->transport, &sent));
    assert_int_equal(sent.type, OPEN);
    confirm(user, id);
    expect_sent(w, REQUEST, "usbs", THEIRS + id, "exec", true, "run");
}

void expect_quiet(struct upstream_world *w)
{
    assert_int_equal(fake_sent_waiting(w->transport), 0);
    assert_int_equal(w->faults, 0);
}

void expect_fault(struct upstream_world *w)
{
    assert_int_equal(w->faults, 1);
    assert_true(w->fault_reason[0] != '\0');
}
