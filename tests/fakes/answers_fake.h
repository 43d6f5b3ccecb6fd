/* The answers that tests give most, each ending the oldest pending question of its kind. */
#ifndef PARLEY_TESTS_FAKES_ANSWERS_FAKE_H
#define PARLEY_TESTS_FAKES_ANSWERS_FAKE_H

#include "fakes/control_fake.h"

#define FAKE_PUBLICKEY POLICY__AUTH_METHOD__AUTH_METHOD_PUBLICKEY
#define FAKE_PASSWORD  POLICY__AUTH_METHOD__AUTH_METHOD_PASSWORD
#define FAKE_KBDINT    POLICY__AUTH_METHOD__AUTH_METHOD_KEYBOARD_INTERACTIVE

/* BeginAuth: these methods, ended by 0; nothing more asked about them. */
void fake_begin(struct control *control, const Policy__AuthMethod *methods);
void fake_begin_both(struct control *control); /* publickey and password */
void fake_begin_open(struct control *control); /* names no methods: the Supported handlers decide */
void fake_support(struct control *control, enum rpc rpc, Policy__Support support);

/* For ConnectionMade, AuthCompleted, ValidatePublicKey, ValidateCaKey, ValidatePassword,
 * ChangePassword, GetKbdintChallenge, ValidateKbdintResponse, PtyRequested, EnvRequested,
 * X11Requested, AgentRequested. */
void fake_allow(struct control *control, enum rpc rpc);
void fake_allow_with(struct control *control, enum rpc rpc, Policy__Restrictions *restrictions);
void fake_allow_for(struct control *control, enum rpc rpc, uint32_t expires_in_s);
void fake_deny(struct control *control, enum rpc rpc, const char *message);
void fake_partial(struct control *control, enum rpc rpc, Policy__AuthMethod remaining,
                  Policy__Restrictions *restrictions);

/* For GetKbdintChallenge, ValidateKbdintResponse: so many prompts, "prompt 0" hidden, "prompt 1"
 * shown, ... */
void fake_challenge(struct control *control, enum rpc rpc, size_t prompts);
/* For ValidatePassword, ChangePassword. */
void fake_change_required(struct control *control, enum rpc rpc, const char *prompt);

/* For SessionRequested and the programs. */
void fake_accept(struct control *control, enum rpc rpc);
void fake_accept_stream(struct control *control, enum rpc rpc, const char *target);
void fake_refuse(struct control *control, enum rpc rpc, uint32_t code, const char *reason);

/* What the policy sends over a Channel stream. */
void fake_push_data(struct stream *stream, struct bytes data, uint32_t extended_type);
void fake_push_eof(struct stream *stream);
void fake_push_exit(struct stream *stream, uint32_t status);
void fake_push_break_answer(struct stream *stream, uint32_t id, bool handled);

#endif
