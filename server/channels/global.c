/* Global requests (RFC 4254 section 4; OpenSSH PROTOCOL sections 2.2 and 2.5). */
#include "channels/internal.h"

#define HOST_KEYS_PROVED_MAX 16

static void send_reply(struct channels *channels, bool success, struct bytes fields)
{
    struct buf message = {0};

    buf_put_u8(&message, success ? MSG_REQUEST_SUCCESS : MSG_REQUEST_FAILURE);
    buf_put(&message, fields);
    transport_send(channels->transport, buf_bytes(&message));
    buf_clear(&message);
}

/* hostkeys-prove-00@openssh.com: a signature of each key that the client names, over this session.
 */
static bool prove(struct channels *channels, struct reader *r, struct buf *reply)
{
    bool proved = r->left > 0;
    size_t count = 0;

    while (proved && r->left > 0) {
        struct bytes blob = reader_string(r);
        struct buf data = {0}, signature = {0};

        buf_put_cstring(&data, "hostkeys-prove-00@openssh.com");
        buf_put_string(&data, transport_session_id(channels->transport));
        buf_put_string(&data, blob);
        proved = reader_ok(r) && ++count <= HOST_KEYS_PROVED_MAX &&
                 transport_host_key_sign(channels->transport, blob, buf_bytes(&data), &signature);
        if (proved)
            buf_put_string(reply, buf_bytes(&signature));
        buf_clear(&data);
        buf_clear(&signature);
    }
    return proved;
}

static void prove_host_keys(struct channels *channels, struct reader *r)
{
    struct buf reply = {0};
    bool proved = prove(channels, r, &reply);

    global_done(channels, proved, buf_bytes(&reply));
    buf_clear(&reply);
}

static void no_more_sessions(struct channels *channels, struct reader *r)
{
    (void)r;
    channels->no_more_sessions = true;
    global_done(channels, true, (struct bytes){0});
}

/* One row per request; each ends in global_done(). Others fail, keepalives among them: any reply is
 * what those want. */
static const struct {
    const char *name;
    void (*run)(struct channels *channels, struct reader *r);
} global_types[] = {
    {"hostkeys-prove-00@openssh.com", prove_host_keys},
    {"no-more-sessions@openssh.com", no_more_sessions},
    {"tcpip-forward", remote_listen_tcp},
    {"cancel-tcpip-forward", remote_cancel_tcp},
    {"streamlocal-forward@openssh.com", remote_listen_path},
    {"cancel-streamlocal-forward@openssh.com", remote_cancel_path},
};

/* The lane is not resumed from within its own run(): a request that ended at once is found there.
 */
void global_done(struct channels *channels, bool success, struct bytes fields)
{
    if (channels->global_wants_reply)
        send_reply(channels, success, success ? fields : (struct bytes){0});
    if (channels->global_running)
        channels->global_running = false;
    else
        lane_resume(&channels->globals);
}

static void run(struct channels *channels, struct bytes name, struct reader *r)
{
    for (size_t i = 0; i < sizeof(global_types) / sizeof(global_types[0]); i++)
        if (bytes_are(name, global_types[i].name)) {
            global_types[i].run(channels, r);
            return;
        }
    global_done(channels, false, (struct bytes){0});
}

enum lane_step global_run(void *owner, uint8_t type, struct bytes message)
{
    struct channels *channels = owner;
    struct reader r = reader_of(message);
    struct bytes name = reader_string(&r);
    bool waits;

    (void)type;
    if (channels->faulty)
        return LANE_DONE;
    channels->global_wants_reply = reader_bool(&r);
    channels->global_running = true;
    if (reader_ok(&r))
        run(channels, name, &r);
    else
        channels_fault(channels, "Malformed global request");
    waits = channels->global_running && !channels->faulty;
    channels->global_running = false;
    return waits ? LANE_WAIT : LANE_DONE;
}

static void begin_request(struct buf *message, const char *name, bool want_reply)
{
    buf_put_u8(message, MSG_GLOBAL_REQUEST);
    buf_put_cstring(message, name);
    buf_put_bool(message, want_reply);
}

void channels_announce_host_keys(struct channels *channels)
{
    struct buf message = {0};

    begin_request(&message, "hostkeys-00@openssh.com", false);
    for (size_t i = 0; i < transport_host_key_count(channels->transport); i++)
        buf_put_string(&message, transport_host_key_blob(channels->transport, i));
    transport_send(channels->transport, buf_bytes(&message));
    buf_clear(&message);
}

void channels_send_keepalive(struct channels *channels)
{
    struct buf message = {0};

    begin_request(&message, "keepalive@openssh.com", true);
    transport_send(channels->transport, buf_bytes(&message));
    buf_clear(&message);
}
