/* BeginAuth and the Supported questions: what may this user try? */
#include "auth/internal.h"

#include "base/alloc.h"
#include "base/log.h"

#include <stdlib.h>

#define UNSPECIFIED_BIT METHOD_BIT(POLICY__AUTH_METHOD__AUTH_METHOD_UNSPECIFIED)
#define PUBLICKEY_BIT   METHOD_BIT(POLICY__AUTH_METHOD__AUTH_METHOD_PUBLICKEY)
#define PASSWORD_BIT    METHOD_BIT(POLICY__AUTH_METHOD__AUTH_METHOD_PASSWORD)
#define KBDINT_BIT      METHOD_BIT(POLICY__AUTH_METHOD__AUTH_METHOD_KEYBOARD_INTERACTIVE)

static uint32_t methods_mask(const Policy__Methods *methods)
{
    uint32_t mask = 0;

    for (size_t i = 0; i < methods->n_methods; i++)
        mask |= METHOD_BIT(methods->methods[i]);
    return mask;
}

/* What this daemon, or this connection, does not have. */
static uint32_t disabled_methods(struct auth *auth)
{
    uint32_t mask = 0;

    if (auth->keyex == NULL)
        auth->keyex = transport_take_gss(auth->transport);
    if (auth->settings.gss == NULL)
        mask |= METHOD_BIT(POLICY__AUTH_METHOD__AUTH_METHOD_GSSAPI_WITH_MIC);
    if (auth->settings.gss == NULL || auth->keyex == NULL)
        mask |= METHOD_BIT(POLICY__AUTH_METHOD__AUTH_METHOD_GSSAPI_KEYEX);
    return mask;
}

static void forget_user(struct auth *auth)
{
    free(auth->required);
    auth->required = NULL;
    auth->required_count = 0;
    auth->not_required = false;
    key_lists_clear(&auth->lists);
    auth->methods_fixed = false;
    auth->kbdint_tied = false;
    auth->disabled = disabled_methods(auth);
    auth->known = auth_unasked_methods();
    auth->offered = auth->known & ~auth->disabled;
    auth->passed = 0;
}

/* UNSPECIFIED stays in a set, where nobody can pass it: what the policy meant must not be left out.
 * So does a method that is named twice, as one method counts once. */
static uint32_t required_mask(const Policy__Methods *methods)
{
    uint32_t mask = 0;

    for (size_t i = 0; i < methods->n_methods; i++) {
        uint32_t bit = METHOD_BIT(methods->methods[i]);

        mask |= (mask & bit) != 0 ? UNSPECIFIED_BIT : bit;
    }
    return mask;
}

static void note_required(struct auth *auth, const Policy__BeginAuthAnswer *answer)
{
    auth->required_count = answer->n_required;
    auth->required = xcalloc(answer->n_required, sizeof(*auth->required));
    for (size_t i = 0; i < answer->n_required; i++)
        auth->required[i] = required_mask(answer->required[i]);
}

/* A method that the contract has and this daemon does not offer yet is not listed to the client. */
static void warn_of_methods(struct auth *auth, const Policy__Methods *methods)
{
    uint32_t live = auth_live_methods(auth);

    for (size_t i = 0; i < methods->n_methods; i++) {
        const ProtobufCEnumValue *name = protobuf_c_enum_descriptor_get_value(
            &policy__auth_method__descriptor, (int)methods->methods[i]);

        if ((live & METHOD_BIT(methods->methods[i])) == 0)
            log_warn(asker_connection_id(auth->asker), "handler_not_called_yet",
                     log_str("method", name ? name->name : NULL),
                     log_str("outcome", "not offered"));
    }
}

static void note_begin(struct auth *auth, const Policy__BeginAuthAnswer *answer)
{
    auth->not_required = answer->requirement == POLICY__REQUIREMENT__REQUIREMENT_NOT_REQUIRED;
    if (answer->methods != NULL) {
        auth->methods_fixed = true;
        auth->kbdint_tied = answer->tie_kbdint_to_password;
        auth->known = UINT32_MAX;
        auth->offered = methods_mask(answer->methods) & ~UNSPECIFIED_BIT & ~auth->disabled;
        warn_of_methods(auth, answer->methods);
    }
    note_required(auth, answer);
    key_lists_set(&auth->lists, answer);
    if (answer->methods == NULL && key_lists_authorize(&auth->lists)) {
        auth->known |= PUBLICKEY_BIT;
        auth->offered |= PUBLICKEY_BIT;
    }
}

bool auth_is_given(const struct auth *auth, const struct auth_method *method)
{
    return METHOD_BIT(method->method) == PUBLICKEY_BIT && key_lists_authorize(&auth->lists);
}

static void on_begun(void *owner, enum outcome outcome, const ProtobufCMessage *answer)
{
    struct auth *auth = owner;

    auth->asking = NULL;
    if (outcome == UNAVAILABLE || outcome == EXPIRED) {
        auth_fault(auth, DISCONNECT_BY_APPLICATION,
                   "Login is not possible now: the policy service gave no answer");
        return;
    }
    auth->begun = true;
    if (outcome == ANSWERED)
        note_begin(auth, (const Policy__BeginAuthAnswer *)answer);
    auth_dispatch(auth);
}

void auth_begin(struct auth *auth)
{
    Policy__BeginAuthRequest question = POLICY__BEGIN_AUTH_REQUEST__INIT;

    forget_user(auth);
    auth->asking = asker_ask(auth->asker, RPC_BEGIN_AUTH, &question.base, 0, on_begun, auth);
}

void auth_ask_supported(struct auth *auth, const struct auth_method *method, answer_fn *done)
{
    Policy__SupportedRequest question = POLICY__SUPPORTED_REQUEST__INIT;

    auth->asking = asker_ask(auth->asker, method->supported, &question.base, 0, done, auth);
}

uint32_t auth_offered(const struct auth *auth)
{
    bool password = (auth->offered & PASSWORD_BIT) != 0;
    /* BeginAuth may offer the one without the other. */
    bool stands = !auth->kbdint_tied || auth->methods_fixed || password;

    return stands ? auth->offered : auth->offered & ~KBDINT_BIT;
}

const struct auth_method *auth_to_ask(const struct auth *auth, const struct auth_method *method)
{
    uint32_t bit = METHOD_BIT(method->method);

    if ((auth->known & bit) == 0)
        return method;
    if (bit == KBDINT_BIT && auth->kbdint_tied && (auth->known & PASSWORD_BIT) == 0)
        return auth_method_row(POLICY__AUTH_METHOD__AUTH_METHOD_PASSWORD);
    return NULL;
}

void auth_note_support(struct auth *auth, const struct auth_method *method, enum outcome outcome,
                       const ProtobufCMessage *answer)
{
    uint32_t bit = METHOD_BIT(method->method);
    const Policy__SupportedAnswer *supported = (const Policy__SupportedAnswer *)answer;
    bool yes = outcome == ANSWERED && supported->support == POLICY__SUPPORT__SUPPORT_YES;

    if (bit == KBDINT_BIT) { /* absent: its default is the tie */
        auth->kbdint_tied =
            outcome == ABSENT || (outcome == ANSWERED &&
                                  supported->support == POLICY__SUPPORT__SUPPORT_TIED_TO_PASSWORD);
        yes = yes || auth->kbdint_tied;
    }
    auth->known |= bit;
    auth->offered &= ~bit;
    if (yes)
        auth->offered |= bit;
}
