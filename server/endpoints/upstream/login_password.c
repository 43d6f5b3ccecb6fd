/*
 * A password: RFC 4252 section 8. Where the server has only keyboard-interactive (RFC 4256; sshd
 * with PAM), it is the response to the one question that is asked without echo.
 */
#include "endpoints/upstream/login_internal.h"

#include "base/alloc.h"
#include "base/words.h"

#include <stdlib.h>

#define ROUNDS_MAX 8

static const struct login_method keyboard_interactive;

static void password_begin(struct login *login)
{
    struct buf message = {0};

    login_set_how(login, "password", NULL);
    login_put_request(login, &message, "password");
    buf_put_bool(&message, false);
    buf_put_cstring(&message, login->start.hop->password);
    login_send(login, &message);
}

static void password_refused(struct login *login, struct bytes methods)
{
    if (list_has(methods, BYTES("password")) || !list_has(methods, BYTES("keyboard-interactive"))) {
        login_denied(login, methods);
        return;
    }
    login->method = &keyboard_interactive;
    login->method->begin(login);
}

/* PASSWD_CHANGEREQ */
static void password_message(struct login *login, struct bytes message)
{
    (void)message;
    login_end(login, DISCONNECT_NO_MORE_AUTH_METHODS,
              "the password has expired and must be changed first");
}

static void kbdint_begin(struct login *login)
{
    struct buf message = {0};

    login_set_how(login, "keyboard-interactive", NULL);
    login_put_request(login, &message, "keyboard-interactive");
    buf_put_cstring(&message, ""); /* language */
    buf_put_cstring(&message, ""); /* submethods */
    login_send(login, &message);
}

/* Name, instruction and language tell nobody anything here. False: malformed. */
static bool parse_request(struct bytes message, uint32_t *prompts, bool *echo)
{
    struct reader r = reader_of(message);

    for (int i = 0; i < 3; i++)
        reader_string(&r);
    *prompts = reader_u32(&r);
    *echo = false;
    for (uint32_t i = 0; i < *prompts && reader_ok(&r); i++) {
        reader_string(&r);
        *echo = reader_bool(&r);
    }
    return reader_end(&r);
}

static void kbdint_respond(struct login *login, bool with_password)
{
    struct buf message = {0};

    buf_put_u8(&message, MSG_USERAUTH_INFO_RESPONSE);
    buf_put_u32(&message, with_password ? 1 : 0);
    if (with_password)
        buf_put_cstring(&message, login->start.hop->password);
    login->answered = login->answered || with_password;
    login_send(login, &message);
}

static void kbdint_message(struct login *login, struct bytes message)
{
    uint32_t prompts;
    bool echo;

    if (!parse_request(message, &prompts, &echo))
        login_fault(login, "a malformed question");
    else if (++login->rounds > ROUNDS_MAX)
        login_end(login, DISCONNECT_NO_MORE_AUTH_METHODS, "it asks without end");
    else if (prompts == 0)
        kbdint_respond(login, false);
    else if (prompts == 1 && !echo && !login->answered)
        kbdint_respond(login, true);
    else
        login_end(login, DISCONNECT_NO_MORE_AUTH_METHODS, "it asks for more than a password");
}

const struct login_method login_password = {
    .begin = password_begin,
    .refused = password_refused,
    .message = password_message,
};

static const struct login_method keyboard_interactive = {
    .begin = kbdint_begin,
    .refused = login_denied,
    .message = kbdint_message,
};
