/* The facts of one connection that every question carries, and what every answer may do to them. */
#include "control/internal.h"

#include "base/alloc.h"
#include "control/codec.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define CONTRACT_REVISION 1

struct asker {
    struct control *control;
    struct loop *loop;
    const struct asker_events *events;
    void *owner;

    char id[ID_TEXT_LEN + 1];
    char question_id[ID_TEXT_LEN + 1];
    Policy__Context context; /* points into what follows */
    Policy__Address peer, local;
    char *peer_ip, *local_ip, *client_version, *user;
    struct buf session_id;

    /* The state as it is, and as it was when no user had been named: what authentication added goes
     * with the name. */
    struct buf state, state_before_user;
    bool state_of_user; /* an answer about this user has set it */
    unsigned epoch;     /* user names so far; 0: none yet */
    unsigned streams[LINK_WIDTHS];

    struct decision_list decisions;
};

static void refresh(struct asker *asker)
{
    Policy__Context *context = &asker->context;

    context->connection_id = asker->id;
    context->question_id = asker->question_id;
    context->daemon = asker->control->daemon_name;
    context->contract_revision = CONTRACT_REVISION;
    context->peer = asker->peer_ip ? &asker->peer : NULL;
    context->local = asker->local_ip ? &asker->local : NULL;
    if (asker->client_version != NULL)
        context->client_version = asker->client_version;
    if (asker->user != NULL)
        context->user = asker->user;
    context->session_id.data = asker->session_id.data;
    context->session_id.len = asker->session_id.len;
    context->state.data = asker->state.data;
    context->state.len = asker->state.len;
}

struct asker *asker_new(struct control *control, struct loop *loop,
                        const struct asker_events *events, void *owner)
{
    struct asker *asker = xcalloc(1, sizeof(*asker));

    control_ref(control);
    asker->control = control;
    asker->loop = loop;
    asker->events = events;
    asker->owner = owner;
    random_id(asker->id);
    policy__context__init(&asker->context);
    LIST_INIT(&asker->decisions);
    return asker;
}

static void drop_factors(struct asker *asker)
{
    for (size_t i = 0; i < asker->context.n_passed; i++)
        policy__factor__free_unpacked(asker->context.passed[i], NULL);
    free(asker->context.passed);
    asker->context.passed = NULL;
    asker->context.n_passed = 0;
}

void asker_free(struct asker **where)
{
    struct asker *asker = *where;

    *where = NULL;
    if (asker == NULL)
        return;
    decisions_leave(&asker->decisions);
    drop_factors(asker);
    free(asker->peer_ip);
    free(asker->local_ip);
    free(asker->client_version);
    free(asker->user);
    buf_clear(&asker->session_id);
    buf_clear_secret(&asker->state);
    buf_clear_secret(&asker->state_before_user);
    control_unref(asker->control);
    free(asker);
}

const char *asker_connection_id(const struct asker *asker)
{
    return asker->id;
}

struct loop *asker_loop(const struct asker *asker)
{
    return asker->loop;
}

struct control *asker_control(const struct asker *asker)
{
    return asker->control;
}

struct decision_list *asker_decisions(struct asker *asker)
{
    return &asker->decisions;
}

unsigned *asker_streams(struct asker *asker)
{
    return asker->streams;
}

unsigned asker_epoch(const struct asker *asker)
{
    return asker->epoch;
}

const struct asker_events *asker_events(const struct asker *asker, void **owner)
{
    *owner = asker->owner;
    return asker->events;
}

static void set_address(Policy__Address *out, char **ip, const struct address *address)
{
    free(*ip);
    *ip = xstrdup(address->ip);
    policy__address__init(out);
    out->ip = *ip;
    out->port = address->port;
}

void asker_set_addresses(struct asker *asker, const struct address *peer,
                         const struct address *local)
{
    set_address(&asker->peer, &asker->peer_ip, peer);
    set_address(&asker->local, &asker->local_ip, local);
}

void asker_set_client_version(struct asker *asker, const char *version)
{
    free(asker->client_version);
    asker->client_version = xstrdup(version);
}

static void set_bytes(struct buf *buf, struct bytes value)
{
    buf_reset(buf);
    buf_put(buf, value);
}

void asker_set_session_id(struct asker *asker, struct bytes session_id)
{
    set_bytes(&asker->session_id, session_id);
}

void asker_set_user(struct asker *asker, struct bytes user)
{
    if (asker->user != NULL && bytes_are(user, asker->user))
        return;
    assert(text_is_clean(user));
    if (asker->epoch++ == 0)
        set_bytes(&asker->state_before_user, buf_bytes(&asker->state));
    else
        set_bytes(&asker->state, buf_bytes(&asker->state_before_user));
    asker->state_of_user = false;
    drop_factors(asker);
    free(asker->user);
    asker->user = bytes_to_string(user);
}

const char *asker_user(const struct asker *asker)
{
    return asker->user ? asker->user : "";
}

void asker_set_authenticated(struct asker *asker)
{
    asker->context.authenticated = true;
}

void asker_add_factor(struct asker *asker, const Policy__Factor *factor)
{
    Policy__Context *context = &asker->context;

    context->passed =
        xrealloc(context->passed, (context->n_passed + 1) * sizeof(context->passed[0]));
    context->passed[context->n_passed++] = (Policy__Factor *)codec_copy(&factor->base);
}

size_t asker_factors(const struct asker *asker)
{
    return asker->context.n_passed;
}

/* `epoch`: the one in which the question was asked. */
void asker_set_state(struct asker *asker, struct bytes state, unsigned epoch)
{
    if (epoch == asker->epoch) {
        set_bytes(&asker->state, state);
        asker->state_of_user = epoch > 0;
    } else if (epoch == 0) {
        /* Asked before any name was known (ConnectionMade), answered after. */
        set_bytes(&asker->state_before_user, state);
        if (!asker->state_of_user)
            set_bytes(&asker->state, state);
    }
    /* Else it was about a user who is gone. */
}

Policy__Context *asker_context_for(struct asker *asker, const char *question_id)
{
    if (question_id != NULL)
        memcpy(asker->question_id, question_id, sizeof(asker->question_id));
    else
        random_id(asker->question_id);
    refresh(asker);
    return &asker->context;
}

Policy__Context *asker_context(struct asker *asker)
{
    return asker_context_for(asker, NULL);
}
