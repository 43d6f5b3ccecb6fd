#include "control/rpc.h"

#include <assert.h>
#include <string.h>

#define KIB            1024u
#define ANSWER_MAX     (64 * KIB)
#define BEGIN_AUTH_MAX (1024 * KIB + 64 * KIB) /* authorized_keys of 1 MiB, and the rest */
#define STREAM_MAX     (1024 * KIB + 1 * KIB)  /* 1 MiB of payload in its envelope */
#define ROW(name, ...)                                                                             \
    {                                                                                              \
#name, "/parley.policy.v1.Policy/" #name, __VA_ARGS__                                      \
    }
#define AUTH(name)        ROW(name, RPC_ASK, GROUP_AUTH, false, ANSWER_MAX)
#define AUTH_ALLOWS(name) ROW(name, RPC_ASK, GROUP_AUTH, true, ANSWER_MAX)
#define ASK(name)         ROW(name, RPC_ASK, GROUP_OTHER, false, ANSWER_MAX)
#define ASK_ALLOWS(name)  ROW(name, RPC_ASK, GROUP_OTHER, true, ANSWER_MAX)
#define REPORT(name)      ROW(name, RPC_REPORT, GROUP_OTHER, false, ANSWER_MAX)
#define STREAM(name)      ROW(name, RPC_STREAM, GROUP_OTHER, false, STREAM_MAX)

static const struct rpc_row rows[RPC_COUNT] = {
    [RPC_CONNECTION_MADE] = ASK_ALLOWS(ConnectionMade),
    [RPC_CONNECTION_LOST] = REPORT(ConnectionLost),
    [RPC_DEBUG_MSG_RECEIVED] = REPORT(DebugMsgReceived),
    [RPC_SUPERVISE] = STREAM(Supervise),
    [RPC_BEGIN_AUTH] = ROW(BeginAuth, RPC_ASK, GROUP_AUTH, false, BEGIN_AUTH_MAX),
    [RPC_AUTH_COMPLETED] = AUTH_ALLOWS(AuthCompleted),
    [RPC_HOST_BASED_AUTH_SUPPORTED] = AUTH(HostBasedAuthSupported),
    [RPC_PUBLIC_KEY_AUTH_SUPPORTED] = AUTH(PublicKeyAuthSupported),
    [RPC_PASSWORD_AUTH_SUPPORTED] = AUTH(PasswordAuthSupported),
    [RPC_KBDINT_AUTH_SUPPORTED] = AUTH(KbdintAuthSupported),
    [RPC_VALIDATE_PUBLIC_KEY] = AUTH(ValidatePublicKey),
    [RPC_VALIDATE_CA_KEY] = AUTH(ValidateCaKey),
    [RPC_VALIDATE_PASSWORD] = AUTH(ValidatePassword),
    [RPC_CHANGE_PASSWORD] = AUTH(ChangePassword),
    [RPC_GET_KBDINT_CHALLENGE] = AUTH(GetKbdintChallenge),
    [RPC_VALIDATE_KBDINT_RESPONSE] = AUTH(ValidateKbdintResponse),
    [RPC_VALIDATE_HOST_PUBLIC_KEY] = AUTH(ValidateHostPublicKey),
    [RPC_VALIDATE_HOST_CA_KEY] = AUTH(ValidateHostCaKey),
    [RPC_VALIDATE_HOST_BASED_USER] = AUTH_ALLOWS(ValidateHostBasedUser),
    [RPC_VALIDATE_GSS_PRINCIPAL] = AUTH_ALLOWS(ValidateGssPrincipal),
    [RPC_SESSION_REQUESTED] = ASK(SessionRequested),
    [RPC_CONNECTION_REQUESTED] = ASK(ConnectionRequested),
    [RPC_UNIX_CONNECTION_REQUESTED] = ASK(UnixConnectionRequested),
    [RPC_TUN_REQUESTED] = ASK(TunRequested),
    [RPC_TAP_REQUESTED] = ASK(TapRequested),
    [RPC_SERVER_REQUESTED] = ASK(ServerRequested),
    [RPC_UNIX_SERVER_REQUESTED] = ASK(UnixServerRequested),
    [RPC_FORWARD_ACCEPTED] = ASK(ForwardAccepted),
    [RPC_PTY_REQUESTED] = ASK_ALLOWS(PtyRequested),
    [RPC_ENV_REQUESTED] = ASK(EnvRequested),
    [RPC_X11_REQUESTED] = ASK(X11Requested),
    [RPC_AGENT_REQUESTED] = ASK(AgentRequested),
    [RPC_SHELL_REQUESTED] = ASK(ShellRequested),
    [RPC_EXEC_REQUESTED] = ASK(ExecRequested),
    [RPC_SUBSYSTEM_REQUESTED] = ASK(SubsystemRequested),
    [RPC_CHANNEL] = STREAM(Channel),
};

const struct rpc_row *rpc_row(enum rpc rpc)
{
    assert((unsigned)rpc < RPC_COUNT);
    return &rows[rpc];
}

const char *rpc_name(enum rpc rpc)
{
    return rpc_row(rpc)->name;
}

bool rpc_by_name(const char *name, enum rpc *out)
{
    for (unsigned i = 0; i < RPC_COUNT; i++)
        if (strcmp(rows[i].name, name) == 0) {
            *out = (enum rpc)i;
            return true;
        }
    return false;
}

bool rpc_default_allows(enum rpc rpc)
{
    return rpc_row(rpc)->default_allows;
}

static const ProtobufCMethodDescriptor *method(enum rpc rpc)
{
    return protobuf_c_service_descriptor_get_method_by_name(&policy__policy__descriptor,
                                                            rpc_name(rpc));
}

const ProtobufCMessageDescriptor *rpc_input(enum rpc rpc)
{
    const ProtobufCMethodDescriptor *found = method(rpc);

    return found ? found->input : NULL;
}

const ProtobufCMessageDescriptor *rpc_output(enum rpc rpc)
{
    const ProtobufCMethodDescriptor *found = method(rpc);

    return found ? found->output : NULL;
}

uint32_t rpc_largest_answer(void)
{
    uint32_t largest = 0;

    for (unsigned i = 0; i < RPC_COUNT; i++)
        if (rows[i].max_answer > largest)
            largest = rows[i].max_answer;
    return largest;
}
