/* The asker of the fake control: the facts that travel in every Context. */
#include "fakes/control_fake_internal.h"

#include "base/alloc.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void set_text(char **field, const char *text)
{
    if (*field != protobuf_c_empty_string)
        free(*field);
    *field = xstrdup(text);
}

static void set_bytes(ProtobufCBinaryData *field, struct bytes b)
{
    free(field->data);
    field->data = xmemdup(b.data, b.len);
    field->len = b.len;
}

struct asker *asker_new(struct control *control, struct loop *loop,
                        const struct asker_events *events, void *owner)
{
    struct asker *asker = xcalloc(1, sizeof(*asker));

    asker->control = control;
    asker->loop = loop;
    asker->events = events;
    asker->owner = owner;
    random_id(asker->id);
    asker->context = xmalloc(sizeof(*asker->context));
    policy__context__init(asker->context);
    set_text(&asker->context->connection_id, asker->id);
    control->askers++;
    return asker;
}

void asker_free(struct asker **where)
{
    struct asker *asker = *where;
    struct decision *decision;
    struct stream *stream;

    *where = NULL;
    if (asker == NULL)
        return;
    TAILQ_FOREACH (decision, &asker->control->pending, link)
        assert(decision->asker != asker);
    TAILQ_FOREACH (stream, &asker->control->streams, link)
        assert(stream->asker != asker);
    asker->control->askers--;
    policy__context__free_unpacked(asker->context, NULL);
    buf_clear(&asker->state_before_user);
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

static Policy__Address *address_message(const struct address *address)
{
    Policy__Address *message = xmalloc(sizeof(*message));

    policy__address__init(message);
    message->ip = xstrdup(address->ip);
    message->port = address->port;
    return message;
}

void asker_set_addresses(struct asker *asker, const struct address *peer,
                         const struct address *local)
{
    assert(asker->context->peer == NULL);
    asker->context->peer = address_message(peer);
    asker->context->local = address_message(local);
}

void asker_set_client_version(struct asker *asker, const char *version)
{
    set_text(&asker->context->client_version, version);
}

void asker_set_session_id(struct asker *asker, struct bytes session_id)
{
    set_bytes(&asker->context->session_id, session_id);
}

static void drop_factors(Policy__Context *context)
{
    for (size_t i = 0; i < context->n_passed; i++)
        policy__factor__free_unpacked(context->passed[i], NULL);
    free(context->passed);
    context->passed = NULL;
    context->n_passed = 0;
}

void asker_set_user(struct asker *asker, struct bytes user)
{
    Policy__Context *context = asker->context;
    char *name = bytes_to_string(user);

    assert(text_is_clean(user));
    if (!asker->has_user)
        buf_put(&asker->state_before_user, bytes_of(context->state.data, context->state.len));
    else
        set_bytes(&context->state, buf_bytes(&asker->state_before_user));
    asker->has_user = true;
    set_text(&context->user, name);
    free(name);
    drop_factors(context);
}

const char *asker_user(const struct asker *asker)
{
    return asker->context->user;
}

void asker_set_authenticated(struct asker *asker)
{
    asker->context->authenticated = true;
}

void asker_add_factor(struct asker *asker, const Policy__Factor *factor)
{
    Policy__Context *context = asker->context;

    context->passed = xrealloc(context->passed, (context->n_passed + 1) * sizeof(*context->passed));
    context->passed[context->n_passed++] = (Policy__Factor *)fake_copy(&factor->base);
}

size_t asker_factors(const struct asker *asker)
{
    return asker->context->n_passed;
}

Policy__Context *asker_context(struct asker *asker)
{
    return asker->context;
}
