#include "endpoints/upstream/login_internal.h"

#include "base/alloc.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define BANNERS_MAX    4 /* that are logged */
#define EXTENSIONS_MAX 64

static const struct login_method *const methods[] = {
    [HOP_PASSWORD] = &login_password,
    [HOP_KEY] = &login_key,
    [HOP_AGENT] = &login_agent,
};

/* ---- the end */

void login_end(struct login *login, uint32_t code, const char *why)
{
    if (login->state == LOGIN_OVER)
        return;
    login->state = LOGIN_OVER;
    login->done(login->owner, code, why);
}

void login_fault(struct login *login, const char *why)
{
    char *words = xasprintf("it broke the protocol: %s", why);

    login_end(login, DISCONNECT_PROTOCOL_ERROR, words);
    free(words);
}

static void end_with_names(struct login *login, const char *format, struct bytes names)
{
    char *list = upstream_words(names), *why = xasprintf(format, list);

    free(list);
    login_end(login, DISCONNECT_NO_MORE_AUTH_METHODS, why);
    free(why);
}

void login_denied(struct login *login, struct bytes names)
{
    end_with_names(login, "permission denied (%s)", names);
}

/* ---- towards the server */

void login_set_how(struct login *login, const char *method, const char *what)
{
    free(login->how);
    login->how = what ? xasprintf("%s %s", method, what) : xstrdup(method);
}

void login_put_request(const struct login *login, struct buf *out, const char *method)
{
    buf_put_u8(out, MSG_USERAUTH_REQUEST);
    buf_put_cstring(out, login->start.hop->user);
    buf_put_cstring(out, "ssh-connection");
    buf_put_cstring(out, method);
}

void login_send(struct login *login, struct buf *message)
{
    login->state = LOGIN_ASKED;
    transport_send(login->start.transport, buf_bytes(message));
    buf_clear_secret(message);
}

struct login *login_new(const struct login_start *start, login_fn *done, void *owner)
{
    struct login *login = xcalloc(1, sizeof(*login));
    struct buf message = {0};

    login->start = *start;
    login->done = done;
    login->owner = owner;
    login->method = methods[start->hop->credential];
    login_set_how(login, "none", NULL);
    buf_put_u8(&message, MSG_SERVICE_REQUEST);
    buf_put_cstring(&message, "ssh-userauth");
    transport_send(start->transport, buf_bytes(&message));
    buf_clear(&message);
    return login;
}

/* ---- from the server */

/* RFC 8308 section 2.3; what is not known is ignored. A second one, before success, replaces it. */
static void recv_ext_info(struct login *login, struct bytes message)
{
    struct reader r = reader_of(message);
    uint32_t count = reader_u32(&r);

    for (uint32_t i = 0; i < count && i < EXTENSIONS_MAX && reader_ok(&r); i++) {
        struct bytes name = reader_string(&r), value = reader_string(&r);

        if (!reader_ok(&r))
            break;
        if (bytes_are(name, "server-sig-algs")) {
            free(login->algorithms);
            login->algorithms = bytes_to_string(value);
        } else if (bytes_are(name, "publickey-hostbound@openssh.com")) {
            login->host_bound = bytes_are(value, "0");
        }
    }
    if (!reader_ok(&r) || (count <= EXTENSIONS_MAX && !reader_end(&r)))
        login_fault(login, "malformed extensions");
}

static void recv_service_accept(struct login *login, struct bytes message)
{
    struct reader r = reader_of(message);

    if (login->state != LOGIN_SERVICE) {
        login_fault(login, "a service that was not asked for");
    } else if (message.len > 0 && (!bytes_are(reader_string(&r), "ssh-userauth") ||
                                   !reader_end(&r))) { /* very old servers do not name it */
        login_fault(login, "another service than was asked for");
    } else {
        login->method->begin(login);
    }
}

static void recv_failure(struct login *login, struct bytes message)
{
    struct reader r = reader_of(message);
    struct bytes names = reader_string(&r);
    bool partial = reader_bool(&r);

    if (!reader_end(&r))
        login_fault(login, "a malformed refusal");
    else if (partial) /* there is one credential a hop */
        end_with_names(login, "it wants more than this credential (%s)", names);
    else
        login->method->refused(login, names);
}

static void recv_success(struct login *login, struct bytes message)
{
    if (message.len > 0)
        login_fault(login, "a malformed success");
    else
        login_end(login, 0, NULL);
}

static void recv_banner(struct login *login, struct bytes message)
{
    struct reader r = reader_of(message);
    struct bytes text = reader_string(&r);

    if (login->banners++ < BANNERS_MAX)
        log_debug(login->start.log_id, "upstream_banner", log_str("host", login->start.hop->name),
                  log_bytes("text", text));
}

/* 51, 52 and 60 */
static void recv_verdict(struct login *login, uint8_t type, struct bytes message)
{
    if (login->state != LOGIN_ASKED)
        login_fault(login, "an answer to nothing");
    else if (type == MSG_USERAUTH_FAILURE)
        recv_failure(login, message);
    else if (type == MSG_USERAUTH_SUCCESS)
        recv_success(login, message);
    else if (login->method->message != NULL)
        login->method->message(login, message);
    else
        login_fault(login, "an answer that does not fit what was asked");
}

bool login_message(struct login *login, uint8_t type, struct bytes message)
{
    if (login->state == LOGIN_OVER)
        return true;
    switch (type) {
    case MSG_EXT_INFO:
        recv_ext_info(login, message);
        return true;
    case MSG_SERVICE_ACCEPT:
        recv_service_accept(login, message);
        return true;
    case MSG_USERAUTH_BANNER:
        recv_banner(login, message);
        return true;
    case MSG_USERAUTH_FAILURE:
    case MSG_USERAUTH_SUCCESS:
    case MSG_USERAUTH_PK_OK:
        recv_verdict(login, type, message);
        return true;
    default:
        return false;
    }
}

/* ---- life */

void login_free(struct login **where)
{
    struct login *login = *where;

    *where = NULL;
    if (login == NULL)
        return;
    if (login->method->clear != NULL)
        login->method->clear(login);
    free(login->algorithms);
    free(login->how);
    free(login);
}

const char *login_how(const struct login *login)
{
    return login->how;
}

bool login_awaits_agent(const struct login *login)
{
    return login->state == LOGIN_AGENT;
}
