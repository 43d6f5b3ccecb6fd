/* How logging in ended, for whoever limits the sources of those who log in. */
#include "conn/internal.h"

void login_blame(struct conn *conn, enum conn_login how)
{
    if (conn->logging_in && conn->login == CONN_LOGIN_DONE)
        conn->login = how;
}

/* The policy's time counts for the deadline, not for the blame. */
void login_blame_slow(struct conn *conn)
{
    bool ours = conn->made != NULL || auth_is_asking(conn->auth);

    login_blame(conn, ours ? CONN_LOGIN_BLAMELESS : CONN_LOGIN_TOO_SLOW);
}

/* We sent a DISCONNECT of our own accord. */
static enum conn_login blame_of_code(const struct conn *conn, uint32_t code)
{
    switch (code) {
    case DISCONNECT_PROTOCOL_ERROR:
    case DISCONNECT_MAC_ERROR:
        return CONN_LOGIN_VIOLATION;
    case DISCONNECT_ILLEGAL_USER_NAME:
        return CONN_LOGIN_INVALID_USER;
    case DISCONNECT_KEY_EXCHANGE_FAILED: /* nothing in common, perhaps */
    case DISCONNECT_VERSION_NOT_SUPPORTED:
        return CONN_LOGIN_NOT_TRIED;
    default:
        return auth_has_failed(conn->auth) ? CONN_LOGIN_FAILED : CONN_LOGIN_BLAMELESS;
    }
}

void login_judge_end(struct conn *conn, bool by_us, uint32_t code)
{
    if (!conn->logging_in || conn->login != CONN_LOGIN_DONE || conn->auth == NULL)
        return;
    if (by_us)
        conn->login = blame_of_code(conn, code);
    else if (auth_is_done(conn->auth)) /* it left before AuthCompleted was answered */
        conn->login = CONN_LOGIN_BLAMELESS;
    else if (auth_has_failed(conn->auth))
        conn->login = CONN_LOGIN_FAILED;
    else
        conn->login = auth_is_asking(conn->auth) ? CONN_LOGIN_BLAMELESS : CONN_LOGIN_NOT_TRIED;
}

void login_over(struct conn *conn)
{
    if (!conn->logging_in)
        return;
    conn->logging_in = false;
    conn->conns->events->login_over(conn->conns->owner, &conn->peer, conn->login);
}
