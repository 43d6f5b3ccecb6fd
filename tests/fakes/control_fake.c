#include "fakes/control_fake_internal.h"

#include "base/alloc.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool fake_in_callback;

/* ---- the handlers */

#define ANSWER(kind) &policy__##kind##_answer__descriptor

static const struct {
    const char *name;
    const ProtobufCMessageDescriptor *answer;
} handlers[RPC_COUNT] = {
    [RPC_CONNECTION_MADE] = {"ConnectionMade", ANSWER(connection_made)},
    [RPC_CONNECTION_LOST] = {"ConnectionLost", &policy__ack__descriptor},
    [RPC_DEBUG_MSG_RECEIVED] = {"DebugMsgReceived", &policy__ack__descriptor},
    [RPC_BEGIN_AUTH] = {"BeginAuth", ANSWER(begin_auth)},
    [RPC_AUTH_COMPLETED] = {"AuthCompleted", ANSWER(auth_completed)},
    [RPC_HOST_BASED_AUTH_SUPPORTED] = {"HostBasedAuthSupported", ANSWER(supported)},
    [RPC_PUBLIC_KEY_AUTH_SUPPORTED] = {"PublicKeyAuthSupported", ANSWER(supported)},
    [RPC_PASSWORD_AUTH_SUPPORTED] = {"PasswordAuthSupported", ANSWER(supported)},
    [RPC_KBDINT_AUTH_SUPPORTED] = {"KbdintAuthSupported", ANSWER(supported)},
    [RPC_VALIDATE_PUBLIC_KEY] = {"ValidatePublicKey", ANSWER(auth)},
    [RPC_VALIDATE_CA_KEY] = {"ValidateCaKey", ANSWER(auth)},
    [RPC_VALIDATE_PASSWORD] = {"ValidatePassword", ANSWER(password)},
    [RPC_CHANGE_PASSWORD] = {"ChangePassword", ANSWER(password)},
    [RPC_GET_KBDINT_CHALLENGE] = {"GetKbdintChallenge", ANSWER(kbdint)},
    [RPC_VALIDATE_KBDINT_RESPONSE] = {"ValidateKbdintResponse", ANSWER(kbdint)},
    [RPC_VALIDATE_HOST_PUBLIC_KEY] = {"ValidateHostPublicKey", ANSWER(auth)},
    [RPC_VALIDATE_HOST_CA_KEY] = {"ValidateHostCaKey", ANSWER(auth)},
    [RPC_VALIDATE_HOST_BASED_USER] = {"ValidateHostBasedUser", ANSWER(auth)},
    [RPC_VALIDATE_GSS_PRINCIPAL] = {"ValidateGssPrincipal", ANSWER(auth)},
    [RPC_SESSION_REQUESTED] = {"SessionRequested", ANSWER(session)},
    [RPC_CONNECTION_REQUESTED] = {"ConnectionRequested", ANSWER(open)},
    [RPC_UNIX_CONNECTION_REQUESTED] = {"UnixConnectionRequested", ANSWER(open)},
    [RPC_TUN_REQUESTED] = {"TunRequested", ANSWER(open)},
    [RPC_TAP_REQUESTED] = {"TapRequested", ANSWER(open)},
    [RPC_SERVER_REQUESTED] = {"ServerRequested", ANSWER(listen)},
    [RPC_UNIX_SERVER_REQUESTED] = {"UnixServerRequested", ANSWER(listen)},
    [RPC_FORWARD_ACCEPTED] = {"ForwardAccepted", ANSWER(forward_accepted)},
    [RPC_PTY_REQUESTED] = {"PtyRequested", ANSWER(grant)},
    [RPC_ENV_REQUESTED] = {"EnvRequested", ANSWER(grant)},
    [RPC_X11_REQUESTED] = {"X11Requested", ANSWER(grant)},
    [RPC_AGENT_REQUESTED] = {"AgentRequested", ANSWER(grant)},
    [RPC_SHELL_REQUESTED] = {"ShellRequested", ANSWER(session)},
    [RPC_EXEC_REQUESTED] = {"ExecRequested", ANSWER(session)},
    [RPC_SUBSYSTEM_REQUESTED] = {"SubsystemRequested", ANSWER(session)},
    [RPC_CHANNEL] = {"Channel", &policy__channel_action__descriptor},
};

const char *rpc_name(enum rpc rpc)
{
    return handlers[rpc].name ? handlers[rpc].name : "?";
}

const char *outcome_name(enum outcome outcome)
{
    static const char *const names[] = {"answered", "absent", "unavailable", "expired"};

    return names[outcome];
}

/* ---- control */

struct control *fake_control_new(void)
{
    struct control *control = xcalloc(1, sizeof(*control));

    TAILQ_INIT(&control->pending);
    TAILQ_INIT(&control->streams);
    SLIST_INIT(&control->targets);
    STAILQ_INIT(&control->closed_sent);
    fake_add_target(control, "");
    return control;
}

void fake_control_free(struct control **where)
{
    struct control *control = *where;
    struct fake_target *target;

    *where = NULL;
    assert(TAILQ_EMPTY(&control->pending) && TAILQ_EMPTY(&control->streams));
    assert(control->askers == 0);
    assert(control->asked[RPC_COUNT] == control->cancelled + control->ended);
    while (fake_closed_stream_sent(control) != NULL)
        ;
    for (size_t i = 0; i < RPC_COUNT; i++)
        if (control->last_report[i] != NULL)
            protobuf_c_message_free_unpacked(control->last_report[i], NULL);
    while ((target = SLIST_FIRST(&control->targets)) != NULL) {
        SLIST_REMOVE_HEAD(&control->targets, link);
        free(target->name);
        free(target);
    }
    free(control);
}

void fake_add_target(struct control *control, const char *name)
{
    struct fake_target *target = xcalloc(1, sizeof(*target));

    target->name = xstrdup(name);
    SLIST_INSERT_HEAD(&control->targets, target, link);
}

bool control_has_target(const struct control *control, const char *name)
{
    const struct fake_target *target;

    SLIST_FOREACH (target, &control->targets, link)
        if (strcmp(target->name, name) == 0)
            return true;
    return false;
}

/* ---- questions, as the daemon sees them */

static ProtobufCMessage *travel(struct asker *asker, ProtobufCMessage *request)
{
    char id[32];
    ProtobufCMessage *copy;

    snprintf(id, sizeof(id), "q%llu", (unsigned long long)++asker->questions);
    asker->context->question_id = id;
    fake_set_context(request, asker->context);
    copy = fake_copy(request);
    fake_set_context(request, NULL);
    asker->context->question_id = (char *)protobuf_c_empty_string;
    return copy;
}

struct decision *asker_ask(struct asker *asker, enum rpc rpc, ProtobufCMessage *request, int flags,
                           answer_fn *done, void *owner)
{
    struct decision *decision = xcalloc(1, sizeof(*decision));

    assert(rpc < RPC_COUNT && handlers[rpc].answer != NULL && done != NULL);
    decision->asker = asker;
    decision->rpc = rpc;
    decision->question = travel(asker, request);
    decision->flags = flags;
    decision->done = done;
    decision->owner = owner;
    TAILQ_INSERT_TAIL(&asker->control->pending, decision, link);
    asker->control->asked[rpc]++;
    asker->control->asked[RPC_COUNT]++;
    return decision;
}

static void decision_free(struct decision *decision)
{
    TAILQ_REMOVE(&decision->asker->control->pending, decision, link);
    protobuf_c_message_free_unpacked(decision->question, NULL);
    free(decision);
}

void decision_cancel(struct decision **where)
{
    struct decision *decision = *where;

    *where = NULL;
    if (decision == NULL)
        return;
    if (!decision->silent)
        decision->asker->control->cancelled++;
    decision_free(decision);
}

void asker_report(struct asker *asker, enum rpc rpc, ProtobufCMessage *request)
{
    struct control *control = asker->control;

    assert(rpc == RPC_CONNECTION_LOST || rpc == RPC_DEBUG_MSG_RECEIVED);
    if (control->last_report[rpc] != NULL)
        protobuf_c_message_free_unpacked(control->last_report[rpc], NULL);
    control->last_report[rpc] = travel(asker, request);
    control->reports[rpc]++;
}

/* ---- questions, as the policy sees them */

static struct decision *find(const struct control *control, enum rpc rpc)
{
    struct decision *decision;

    TAILQ_FOREACH (decision, &control->pending, link)
        if (decision->rpc == rpc && !decision->silent)
            return decision;
    return NULL;
}

static struct decision *nth(const struct control *control, size_t index)
{
    struct decision *decision;

    TAILQ_FOREACH (decision, &control->pending, link)
        if (!decision->silent && index-- == 0)
            return decision;
    return NULL;
}

static struct decision *must(const char *who, enum rpc rpc, struct decision *decision)
{
    if (decision == NULL) {
        fprintf(stderr, "%s: no %s is pending\n", who, rpc < RPC_COUNT ? rpc_name(rpc) : "such");
        abort();
    }
    return decision;
}

/* As the real one: the decision has ended before anyone is told. A cancel in between is silence. */
static void finish(struct decision *decision, enum outcome outcome, const ProtobufCMessage *answer)
{
    answer_fn *done = decision->done;
    void *owner = decision->owner;
    static const ProtobufCMessage poison; /* control.h: set if ANSWERED only */

    decision->asker->control->ended++;
    decision_free(decision);
    fake_in_callback = true;
    done(owner, outcome, outcome == ANSWERED ? answer : &poison);
    fake_in_callback = false;
}

static void take_state(struct asker *asker, const struct decision *decision,
                       const Policy__Common *common)
{
    if (common->new_state_case != POLICY__COMMON__NEW_STATE_STATE ||
        (decision->flags & ASK_PROBE) != 0)
        return;
    free(asker->context->state.data);
    asker->context->state.data = xmemdup(common->state.data, common->state.len);
    asker->context->state.len = common->state.len;
}

/* Common is the first field of every answer. False: it ended the connection, nobody sees the rest.
 */
static bool obey_common(struct decision *decision, const ProtobufCMessage *answer)
{
    const Policy__Common *common =
        *(Policy__Common *const *)((const char *)answer + answer->descriptor->fields[0].offset);
    struct asker *asker = decision->asker;

    assert(answer->descriptor->fields[0].descriptor == &policy__common__descriptor);
    if (common == NULL)
        return true;
    take_state(asker, decision, common);
    fake_in_callback = true;
    if (common->disconnect != NULL)
        asker->events->disconnect(asker->owner, common->disconnect->code,
                                  common->disconnect->reason, common->disconnect->language);
    else if (common->banner != NULL)
        asker->events->banner(asker->owner, common->banner->text, common->banner->language);
    fake_in_callback = false;
    return common->disconnect == NULL;
}

static bool is_pending(const struct control *control, const struct decision *wanted)
{
    const struct decision *decision;

    TAILQ_FOREACH (decision, &control->pending, link)
        if (decision == wanted)
            return true;
    return false;
}

static void answer_decision(struct decision *decision, ProtobufCMessage *answer)
{
    struct control *control = decision->asker->control;

    assert(!fake_in_callback);
    if (answer == NULL || !fake_is_well_formed(answer)) {
        finish(decision, UNAVAILABLE, NULL);
    } else if (obey_common(decision, answer)) {
        if (is_pending(control, decision))
            finish(decision, ANSWERED, answer);
    } else if (is_pending(control, decision)) {
        decision->silent = true;
        control->ended++;
    }
    if (answer != NULL)
        protobuf_c_message_free_unpacked(answer, NULL);
}

void fake_answer(struct control *control, enum rpc rpc, const ProtobufCMessage *answer)
{
    assert(answer->descriptor == handlers[rpc].answer);
    answer_decision(must("fake_answer", rpc, find(control, rpc)), fake_copy(answer));
}

void fake_answer_wire(struct control *control, enum rpc rpc, struct bytes wire)
{
    answer_decision(must("fake_answer_wire", rpc, find(control, rpc)),
                    protobuf_c_message_unpack(handlers[rpc].answer, NULL, wire.len, wire.data));
}

void fake_fail(struct control *control, enum rpc rpc, enum outcome outcome)
{
    assert(outcome != ANSWERED && !fake_in_callback);
    finish(must("fake_fail", rpc, find(control, rpc)), outcome, NULL);
}

void fake_answer_nth(struct control *control, size_t index, const ProtobufCMessage *answer)
{
    struct decision *decision = must("fake_answer_nth", RPC_COUNT, nth(control, index));

    assert(answer->descriptor == handlers[decision->rpc].answer);
    answer_decision(decision, fake_copy(answer));
}

void fake_fail_nth(struct control *control, size_t index, enum outcome outcome)
{
    assert(outcome != ANSWERED && !fake_in_callback);
    finish(must("fake_fail_nth", RPC_COUNT, nth(control, index)), outcome, NULL);
}

size_t fake_pending(const struct control *control)
{
    const struct decision *decision;
    size_t count = 0;

    TAILQ_FOREACH (decision, &control->pending, link)
        count += !decision->silent;
    return count;
}

size_t fake_asked(const struct control *control, enum rpc rpc)
{
    return control->asked[rpc];
}

size_t fake_cancelled(const struct control *control)
{
    return control->cancelled;
}

size_t fake_ended(const struct control *control)
{
    return control->ended;
}

const void *fake_question(const struct control *control, enum rpc rpc)
{
    const struct decision *decision = find(control, rpc);

    return decision ? decision->question : NULL;
}

enum rpc fake_pending_rpc(const struct control *control, size_t index)
{
    const struct decision *decision = nth(control, index);

    return decision ? decision->rpc : RPC_COUNT;
}

const void *fake_nth_question(const struct control *control, size_t index)
{
    const struct decision *decision = nth(control, index);

    return decision ? decision->question : NULL;
}

int fake_question_flags(const struct control *control, enum rpc rpc)
{
    return must("fake_question_flags", rpc, find(control, rpc))->flags;
}

size_t fake_reports(const struct control *control, enum rpc rpc)
{
    return control->reports[rpc];
}

const void *fake_report(const struct control *control, enum rpc rpc)
{
    return control->last_report[rpc];
}
