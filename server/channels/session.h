/* What an RFC 4254 session channel gathers before its program starts. */
#ifndef PARLEY_CHANNELS_SESSION_H
#define PARLEY_CHANNELS_SESSION_H

#include "base/reader.h"
#include "channels/env.h"
#include "listeners/private.h"

struct channel;

#define COMMAND_MAX_BYTES   (256 * 1024)
#define TERMINAL_MODES_MAX  160 /* opcodes 1 to 159 take an argument (RFC 4254 section 8) */
#define BREAK_ANSWER_MAX_MS 5000

enum session_state {
    SESSION_NEW,      /* pty, environment */
    SESSION_STARTING, /* the policy is asked about the program */
    SESSION_RUNNING,
};

struct session {
    enum session_state state;
    Policy__SessionAnswer *chosen; /* SessionRequested's endpoint; NULL: it only said accept */
    Policy__Pty *pty;              /* owned; NULL: none was granted */
    struct env_list environment;
    /* What the daemon itself adds for a program that it runs (SSH_AUTH_SOCK), whatever
     * ProcessEndpoint.keep_environment says; only the answer's own variables come before. */
    struct env_list provided;
    Policy__X11 *x11;          /* owned; NULL: not granted */
    bool agent;                /* granted */
    struct forwards *forwards; /* sockets for the two; NULL: none are open */
    struct preparing *preparing;
    /* the program that is being started */
    Policy__SessionStart__ProgramCase program;
    struct buf command;  /* exec: what runs; subsystem: its name */
    bool forced;         /* `command` replaced what the client sent */
    struct buf original; /* what the client sent, if forced */
    uint32_t break_id;
    struct event *break_timer; /* a break waits for its answer */
};

/* choose.c: what a session's program ends in */

/* Keeps the endpoint that SessionRequested chose, if it did more than accept. False: it cannot be,
 * and *why in words for the user. */
bool session_choose(struct channel *channel, const Policy__SessionAnswer *answer, const char **why);
void session_forget_choice(struct session *session);
/* Of the endpoint alone; owned, freed by session_free_choice(), which zeroes it. */
Policy__SessionAnswer *session_copy_choice(const Policy__SessionAnswer *answer);
void session_free_choice(Policy__SessionAnswer **copy);
/* NULL: refused, *why as above. */
struct endpoint *session_start_program(struct channel *channel, const Policy__SessionAnswer *answer,
                                       const char **why);

/* One handler a request type; each ends in request_done(), now or from a later callback. */
void session_pty_req(struct channel *channel, struct reader *r);
void session_env(struct channel *channel, struct reader *r);
void session_shell(struct channel *channel, struct reader *r);
void session_exec(struct channel *channel, struct reader *r);
void session_subsystem(struct channel *channel, struct reader *r);
void session_window_change(struct channel *channel, struct reader *r);
void session_signal(struct channel *channel, struct reader *r);
void session_break(struct channel *channel, struct reader *r);
void session_x11_req(struct channel *channel, struct reader *r);
void session_agent_req(struct channel *channel, struct reader *r);
/* PtyRequested and the like. An allow with conditions that we could not keep is a no. */
bool session_is_granted(struct channel *channel, const char *what,
                        const ProtobufCMessage *grant_answer);
/* user.c: before a program starts on this machine, its user is looked up if that is needed for what
 * X11Requested and AgentRequested granted, and session_open_forwards() called. Then, at once or
 * later, start(channel, answer). */
void session_prepare(struct channel *channel, const Policy__SessionAnswer *answer,
                     void (*start)(struct channel *channel, const Policy__SessionAnswer *answer));
void session_stop_preparing(struct session *session);
/* forwards.c: opens the sockets for this user, and adds the variables that a program finds them by
 * to session->provided. */
void session_open_forwards(struct channel *channel, const struct local_user *user);
void session_close_forwards(struct channel *channel); /* what was granted stays granted */
void session_clear_forwards(struct channel *channel);
/* The policy's answer to a break. */
void session_break_answered(struct channel *channel, uint32_t id, bool handled);

#endif
