/*
 * One end of a connection whose events are counted, the host key that tests use, and what a test
 * program does at its beginning and end.
 */
#ifndef PARLEY_TESTS_TRANSPORT_SIDE_H
#define PARLEY_TESTS_TRANSPORT_SIDE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/reader.h"
#include "transport/transport.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct side {
    struct transport *transport;
    unsigned keys, messages, writables, ends;
    uint8_t last_type;
    struct buf last;
    uint32_t data, disorder; /* CHANNEL_DATA to channels 0, 1, 2, ...; how often it was another */
    struct transport_end end;
    char reason[512];
    bool refuse;      /* answer "not understood" */
    bool disconnect;  /* inside message() */
    bool pause;       /* inside message() */
    bool free_inside; /* inside message() */
};

static struct loop *loop;
static char key_dir[] = "/tmp/transport.XXXXXX";
static char *key_file;

static void on_keys(void *owner)
{
    struct side *side = owner;

    side->keys++;
}

static bool on_message(void *owner, uint8_t type, struct bytes message)
{
    struct side *side = owner;

    struct reader r = reader_of(message);

    side->messages++;
    side->last_type = type;
    if (type == 94 && reader_u32(&r) != side->data++)
        side->disorder++;
    buf_reset(&side->last);
    buf_put(&side->last, message);
    if (side->disconnect)
        transport_disconnect(side->transport, 11, "enough", "");
    if (side->pause)
        transport_pause(side->transport);
    if (side->free_inside)
        transport_free(&side->transport);
    return !side->refuse;
}

static void on_writable(void *owner)
{
    struct side *side = owner;

    side->writables++;
}

static void on_ended(void *owner, const struct transport_end *end)
{
    struct side *side = owner;

    side->ends++;
    side->end = *end;
    snprintf(side->reason, sizeof(side->reason), "%s", end->reason);
    transport_free(&side->transport);
}

static const struct transport_events side_events = {on_keys, on_message, on_writable, on_ended};

static struct transport_server *server_for_pairs(const struct transport_settings *wanted)
{
    struct transport_settings settings = wanted ? *wanted : (struct transport_settings){0};
    const char *files[] = {key_file, NULL};
    struct transport_server *server;
    char *error = NULL;

    settings.host_key_files = files;
    server = transport_server_new(loop, &settings, &error);
    assert_non_null(server);
    return server;
}

static int pairs_set_up(void **state)
{
    char *command;
    int rc;

    (void)state;
    if (mkdtemp(key_dir) == NULL || !transport_global_init())
        return -1;
    key_file = xasprintf("%s/key", key_dir);
    command = xasprintf("ssh-keygen -q -t ed25519 -N '' -C '' -f %s", key_file);
    rc = system(command);
    free(command);
    loop = loop_new();
    return rc;
}

static int pairs_tear_down(void **state)
{
    char *public_file = xasprintf("%s.pub", key_file);

    (void)state;
    unlink(key_file);
    unlink(public_file);
    rmdir(key_dir);
    free(public_file);
    free(key_file);
    loop_free(&loop);
    return 0;
}

#endif
