/*
 * RFC 4254: the channels of one connection, and its global requests. Opens run concurrently; each
 * channel's requests are one lane, global requests another. What a channel ends in is an endpoint.
 */
#ifndef PARLEY_CHANNELS_CHANNELS_H
#define PARLEY_CHANNELS_CHANNELS_H

#include "base/helpers.h"
#include "control/control.h"
#include "endpoints/dial.h"
#include "transport/transport.h"

struct channels;

/* What the login allows here; the connection fills it in from the grant. Copied. */
struct channels_rules {
    bool no_pty, no_x11, no_agent;
    bool forced; /* every program is replaced by this command */
    struct bytes forced_command;
    /* What forwarding must keep to, all of them; borrowed until the next channels_tighten(). */
    Policy__Restrictions *const *restrictions;
    size_t restriction_count;
    struct env_list *environment; /* set for each session before what the client sends; may be NULL;
                                     borrowed, outlives us */
};

struct channels_settings {
    struct helpers *helpers; /* for library calls that block; NULL: those fail */
    uint32_t max_sessions, max_channels;
    uint32_t window_bytes, max_packet_bytes;
    struct dial_settings dial;       /* for what the daemon connects to by itself */
    struct transport_server *server; /* whose offers upstream servers get; borrowed */
    uint32_t upstream_keepalive_ms;  /* as upstream_settings has it */
    uint32_t open_answer_ms; /* how long the client has to answer an open of ours; 0: 60,000 */
};

/* For Supervise; borrowed until the callback returns. */
struct channel_note {
    uint32_t channel; /* our number of it */
    const char *kind;
    struct bytes detail; /* command, destination, ...; empty if not known (yet) */
    uint64_t bytes_from_client, bytes_to_client;
};

struct channels_events {
    /* The peer broke the protocol: disconnect. May come from inside the functions below; the owner
     * does not free us in it. */
    void (*fault)(void *owner, uint32_t code, const char *reason);
    /* The peer answered a global request of ours (keepalive). */
    void (*global_reply)(void *owner);
    /* A channel was confirmed, by either side; and one that was is gone. */
    void (*opened)(void *owner, const struct channel_note *note);
    void (*closed)(void *owner, const struct channel_note *note);
    /* Something that the client asked us to listen on; not told when the connection ends. */
    void (*listener)(void *owner, bool opened, const Policy__ListenerNote *note);
    /* What became of channels_open_by_policy(); error "": the channel of that number is open. */
    void (*opened_by_policy)(void *owner, uint64_t id, const char *error, uint32_t channel);
};

struct channels *channels_new(struct transport *transport, struct asker *asker,
                              struct control *control, const struct channels_settings *settings,
                              const struct channels_rules *rules,
                              const struct channels_events *events, void *owner);
/* Messages 80 to 100. False: not understood. */
bool channels_message(struct channels *channels, uint8_t type, struct bytes message);
/* The transport has room again. */
void channels_writable(struct channels *channels);
void channels_set_limits(struct channels *channels, uint32_t max_sessions, uint32_t max_channels);
/* Closes it without an exit status. False: no such channel is open. */
bool channels_close_one(struct channels *channels, uint32_t id, const char *why);
/* False: nobody listens there for this client. */
bool channels_close_listener(struct channels *channels, const Policy__Address *address);
/* One of SuperviseAction's open actions, by its case. NULL: the client is asked, and
 * opened_by_policy() follows; else why not. */
const char *channels_open_by_policy(struct channels *channels, uint64_t id,
                                    Policy__SuperviseAction__ActionCase action,
                                    const Policy__OpenToClient *open);
/* The login allows less from now on: these rules take the place of the old ones, and what no longer
 * fits is closed. */
void channels_tighten(struct channels *channels, const struct channels_rules *rules);
size_t channels_count(const struct channels *channels);
uint64_t channels_last_data_ms(
    const struct channels *channels); /* clock_ms() of the last data either way, or of the start */
/* Tells the client all our host keys (hostkeys-00@openssh.com). */
void channels_announce_host_keys(struct channels *channels);
/* keepalive@openssh.com, answered by global_reply(). */
void channels_send_keepalive(struct channels *channels);
/* `error` tells the endpoints why; NULL: in order. */
void channels_free(struct channels **channels, const char *error);

#endif
