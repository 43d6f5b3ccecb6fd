/* A client connection whose channels go on upstream, above the fakes: the test is the servers. A
 * listener takes what is dialled; the bytes of the first hop are nobody's, messages are the fake
 * transport's. */
#ifndef PARLEY_TESTS_UNIT_ENDPOINTS_LINK_WORLD_H
#define PARLEY_TESTS_UNIT_ENDPOINTS_LINK_WORLD_H

#include "unit/cmocka_unit.h"

#include "endpoints/upstream/link.h"
#include "fakes/control_fake.h"
#include "fakes/transport_fake.h"
#include "fakes/wire.h"

#define HOST_KEY  "ssh-ed25519:host"
#define INNER_KEY "ssh-ed25519:inner"

struct link_world {
    struct loop *loop;
    struct control *control;
    struct asker *asker;
    struct transport_server *server;
    struct helpers *helpers;
    struct dial_settings dial;
    struct upstream_settings settings;
    struct upstreams *upstreams;
    int listener;
    uint16_t port;
    struct buf known_hosts, inner_known_hosts;
    Policy__UpstreamHop first, second, *hops[2];
    Policy__UpstreamEndpoint answer, both; /* one hop; two */
    struct transport *last;
};

int link_world_set_up(void **state);
int link_world_tear_down(void **state); /* asserts that nothing is left */
/* Begins again, with other settings. */
void link_world_renew(struct link_world *w);
void link_world_turn(struct link_world *w);
/* "127.0.0.1:port: " or "inner.example.org: " in front of the words. */
const char *link_world_words(const struct link_world *w, const char *words);

/* name, then this key */
void link_world_put_host(struct buf *out, const char *marker, const char *name, const char *key);

/* The next connection that is made: waits for it. */
struct transport *link_world_reached(struct link_world *w);
void link_world_trust(struct transport *t, const char *key); /* shows it, and keys are exchanged */
/* From reached to logged in, by password. */
struct transport *link_world_log_in(struct link_world *w, const char *key);

struct link_user {
    struct link_world *world;
    struct link_use *use;
    struct mux *mux;
    int ready, failed;
    char *why;
    struct link_user *again; /* who begins when this one fails */
};

void link_user_begin(struct link_world *w, struct link_user *user,
                     const Policy__UpstreamEndpoint *answer);
void link_user_clear(struct link_user *user);
/* Never ready, and told this; clears it. */
void link_user_expect_failed(struct link_user *user, const char *why);

#endif
