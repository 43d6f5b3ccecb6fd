/* One timer a connection, and only if something can come due: login, lifetime, expiry of the grant,
 * idleness, keepalives. */
#include "conn/internal.h"

#include "base/log.h"
#include "base/random.h"

#include <stdlib.h>

#define JITTER_DIVISOR                                                                             \
    32 /* of the login deadline, added at random: not all of a flood ends at once */

static void on_timer(evutil_socket_t fd, short what, void *arg);

void deadlines_init(struct conn *conn)
{
    const struct conn_settings *settings = &conn->conns->settings;
    struct deadlines *d = &conn->deadlines;
    uint32_t jitter = settings->login_timeout_ms / JITTER_DIVISOR;

    d->timer = event_new(loop_events(conn->conns->loop), -1, 0, on_timer, conn);
    if (settings->login_timeout_ms > 0)
        d->login = conn->accepted_ms + settings->login_timeout_ms + random_below(jitter + 1);
    d->keepalive_ms = (uint64_t)settings->keepalive_interval_s * 1000;
    d->keepalive_max = settings->keepalive_count_max;
    deadlines_update(conn);
}

void deadlines_clear(struct conn *conn)
{
    if (conn->deadlines.timer != NULL)
        event_free(conn->deadlines.timer);
    conn->deadlines.timer = NULL;
}

static void set_keepalive(struct conn *conn, uint32_t interval_s)
{
    struct deadlines *d = &conn->deadlines;

    d->keepalive_ms = (uint64_t)interval_s * 1000;
    if (conn->state == CONN_OPEN) /* else it begins with the login */
        d->keepalive_next = interval_s ? clock_ms() + d->keepalive_ms : 0;
}

void deadlines_apply(struct conn *conn, const Policy__Limits *limits)
{
    struct deadlines *d = &conn->deadlines;

    if (limits == NULL)
        return;
    if (limits->login_timeout_case == POLICY__LIMITS__LOGIN_TIMEOUT_LOGIN_TIMEOUT_S &&
        conn->state < CONN_OPEN)
        d->login = limits->login_timeout_s
                       ? conn->accepted_ms + (uint64_t)limits->login_timeout_s * 1000
                       : 0;
    if (limits->lifetime_case == POLICY__LIMITS__LIFETIME_MAX_LIFETIME_S)
        d->lifetime = limits->max_lifetime_s
                          ? conn->accepted_ms + (uint64_t)limits->max_lifetime_s * 1000
                          : 0;
    if (limits->idle_timeout_case == POLICY__LIMITS__IDLE_TIMEOUT_IDLE_TIMEOUT_S)
        d->idle_ms = (uint64_t)limits->idle_timeout_s * 1000;
    if (limits->keepalive_interval_case == POLICY__LIMITS__KEEPALIVE_INTERVAL_KEEPALIVE_INTERVAL_S)
        set_keepalive(conn, limits->keepalive_interval_s);
    if (limits->keepalive_count_case == POLICY__LIMITS__KEEPALIVE_COUNT_KEEPALIVE_COUNT_MAX)
        d->keepalive_max = limits->keepalive_count_max;
    if (limits->sessions_case == POLICY__LIMITS__SESSIONS_MAX_SESSIONS)
        conn->channel_limits.max_sessions = limits->max_sessions;
    if (limits->channels_case == POLICY__LIMITS__CHANNELS_MAX_CHANNELS)
        conn->channel_limits.max_channels = limits->max_channels;
    deadlines_update(conn);
}

void deadlines_login_done(struct conn *conn)
{
    struct deadlines *d = &conn->deadlines;

    d->login = 0;
    if (d->keepalive_ms > 0)
        d->keepalive_next = clock_ms() + d->keepalive_ms;
    deadlines_update(conn);
}

void deadlines_alive(struct conn *conn)
{
    conn->deadlines.keepalives_unanswered = 0;
}

/* The moment at which an open connection has been idle for too long; 0: never. */
static uint64_t idle_at(const struct conn *conn)
{
    if (conn->deadlines.idle_ms == 0 || conn->channels == NULL)
        return 0;
    return channels_last_data_ms(conn->channels) + conn->deadlines.idle_ms;
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
    if (a == 0 || b == 0)
        return a + b;
    return a < b ? a : b;
}

void deadlines_update(struct conn *conn)
{
    struct deadlines *d = &conn->deadlines;
    uint64_t now = clock_ms(), next = sooner(d->login, d->lifetime);
    struct timeval wait;

    next = sooner(next, conn->grant.expires_at_ms);
    next = sooner(next, idle_at(conn));
    next = sooner(next, d->keepalive_next);
    if (d->timer == NULL || conn->state >= CONN_CLOSING)
        return;
    event_del(d->timer);
    if (next == 0)
        return;
    next = next > now ? next - now : 0;
    wait = (struct timeval){(time_t)(next / 1000), (suseconds_t)(next % 1000 * 1000)};
    event_add(d->timer, &wait);
}

/* Any byte received since the last time counts as an answer (OpenSSH, ClientAliveInterval). False:
 * the client is gone. */
static bool keep_alive(struct conn *conn, uint64_t now)
{
    struct deadlines *d = &conn->deadlines;
    uint64_t seen = transport_bytes_received(conn->transport);

    if (seen != d->bytes_seen)
        d->keepalives_unanswered = 0;
    d->bytes_seen = seen;
    if (d->keepalive_max != 0 && d->keepalives_unanswered >= d->keepalive_max)
        return false;
    d->keepalives_unanswered++;
    d->keepalive_next = now + d->keepalive_ms;
    channels_send_keepalive(conn->channels);
    return true;
}

static bool is_due(uint64_t deadline, uint64_t now)
{
    return deadline != 0 && deadline <= now;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct conn *conn = arg;
    struct deadlines *d = &conn->deadlines;
    uint64_t now = clock_ms();

    (void)fd;
    (void)what;
    if (is_due(d->login, now)) {
        login_blame_slow(conn);
        conn_disconnect(conn, DISCONNECT_BY_APPLICATION, "Login took too long", NULL);
    } else if (is_due(conn->grant.expires_at_ms, now))
        conn_disconnect(conn, DISCONNECT_BY_APPLICATION, "The login has expired", NULL);
    else if (is_due(d->lifetime, now))
        conn_disconnect(conn, DISCONNECT_BY_APPLICATION, "The connection has lived long enough",
                        NULL);
    else if (is_due(idle_at(conn), now))
        conn_disconnect(conn, DISCONNECT_BY_APPLICATION, "Idle for too long", NULL);
    else if (is_due(d->keepalive_next, now) && !keep_alive(conn, now))
        conn_disconnect(conn, DISCONNECT_CONNECTION_LOST, "No answer to keepalives", NULL);
    else
        deadlines_update(conn);
}
