/* Whose sockets X11 and agent forwarding need: the user that the program will run as. Looked up by
 * a helper, since a name service may block; the program waits for it. */
#include "channels/internal.h"

#include "base/alloc.h"
#include "base/log.h"

#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

#define LOOKUP_DEADLINE_MS 5000
#define ENTRY_MAX_BYTES    65536

struct lookup {
    struct helper_task task;
    char *name;
    struct local_user user;
    bool found;
};

/* A program that waits for its user to be known. */
struct preparing {
    struct helper_job *job;
    Policy__SessionAnswer *answer;
    void (*start)(struct channel *channel, const Policy__SessionAnswer *answer);
};

/* ---- on the helper's thread */

static void look_up(struct helper_task *task)
{
    struct lookup *lookup = (struct lookup *)task;
    struct passwd entry, *found = NULL;
    char *strings = xmalloc(ENTRY_MAX_BYTES);

    if (getpwnam_r(lookup->name, &entry, strings, ENTRY_MAX_BYTES, &found) == 0 && found != NULL) {
        lookup->found = true;
        lookup->user = (struct local_user){entry.pw_uid, entry.pw_gid};
    }
    free(strings);
}

static void lookup_free(struct helper_task *task)
{
    struct lookup *lookup = (struct lookup *)task;

    free(lookup->name);
    free(lookup);
}

/* ---- on the loop */

void session_stop_preparing(struct session *session)
{
    struct preparing *preparing = session->preparing;

    session->preparing = NULL;
    if (preparing == NULL)
        return;
    helper_cancel(&preparing->job);
    session_free_choice(&preparing->answer);
    free(preparing);
}

/* Without a user there are no sockets; the program itself may still say what is wrong. */
static void on_looked_up(void *owner, enum helper_outcome outcome, struct helper_task *task)
{
    struct channel *channel = owner;
    struct preparing *preparing = channel->session->preparing;
    const struct lookup *lookup = (const struct lookup *)task;

    preparing->job = NULL;
    channel->session->preparing = NULL;
    if (channel->state == CHANNEL_OPEN) {
        if (outcome == HELPER_DONE && lookup->found)
            session_open_forwards(channel, &lookup->user);
        else
            log_warn(asker_connection_id(channel->channels->asker), "forward_failed",
                     log_u64("channel", channel->id),
                     log_str("why", outcome == HELPER_DONE ? "the user is not known"
                                                           : "the user could not be looked up"));
        preparing->start(channel, preparing->answer);
    }
    session_free_choice(&preparing->answer);
    free(preparing);
}

static void begin_lookup(struct channel *channel, const Policy__SessionAnswer *answer,
                         void (*start)(struct channel *channel,
                                       const Policy__SessionAnswer *answer))
{
    struct preparing *preparing = xcalloc(1, sizeof(*preparing));
    struct lookup *lookup = xcalloc(1, sizeof(*lookup));

    lookup->task = (struct helper_task){look_up, lookup_free};
    lookup->name = xstrdup(answer->process->user);
    preparing->answer = session_copy_choice(answer);
    preparing->start = start;
    channel->session->preparing = preparing;
    preparing->job =
        helpers_run(channel->channels->settings.helpers, channels_loop(channel->channels),
                    LOOKUP_DEADLINE_MS, &lookup->task, on_looked_up, channel);
}

void session_prepare(struct channel *channel, const Policy__SessionAnswer *answer,
                     void (*start)(struct channel *channel, const Policy__SessionAnswer *answer))
{
    const struct session *session = channel->session;
    struct local_user ourselves = {geteuid(), getegid()};

    if (answer->endpoint_case == POLICY__SESSION_ANSWER__ENDPOINT_PROCESS &&
        (session->x11 != NULL || session->agent)) {
        if (answer->process->user[0] != '\0' && channel->channels->settings.helpers != NULL) {
            begin_lookup(channel, answer, start);
            return;
        }
        if (answer->process->user[0] == '\0')
            session_open_forwards(channel, &ourselves);
    }
    start(channel, answer);
}
