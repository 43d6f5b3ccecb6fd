/* The load generator: many SSH clients in one process, on libssh's client side. Prints one JSON
 * line per result. */
#ifndef PARLEY_BENCH_LOAD_H
#define PARLEY_BENCH_LOAD_H

#include <libssh/libssh.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct options {
    const char *host, *user, *key_file, *kex, *cipher, *command, *direction;
    unsigned port, count, parallel, size;
    unsigned forward; /* bulk: this port of loopback, through a direct-tcpip channel; 0: exec */
    uint64_t bytes;
};

/* ---- load_client.c */

/* Connects, and logs in as OpenSSH's client does: none, the key offered, the key proven. NULL: said
 * why on stderr. The index chooses the local address, so that the ports of one do not run out. */
ssh_session client_login(const struct options *options, unsigned index);
ssh_channel client_exec(ssh_session session, const char *command);
ssh_channel client_forward(ssh_session session, unsigned port);
/* Reads until the channel is closed; the bytes read. *status: its exit status, -1 if none came
 * (which it waits for); NULL: it is no session. */
uint64_t client_drain(ssh_channel channel, int *status);
void client_close(ssh_session session, ssh_channel channel);

/* ---- load_samples.c */

struct samples {
    double *values; /* milliseconds */
    size_t count, room;
};

double now_ms(void);
void samples_add(struct samples *samples, double value);
void samples_join(struct samples *samples, const struct samples *more);
double samples_at(struct samples *samples, double quantile); /* sorts */
void samples_clear(struct samples *samples);

/* ---- the modes; each is an exit status. "go" lines on stdin start what is measured, so that the
 * server's CPU can be read right before and after it. */

int load_login(const struct options *options); /* login and exec, count times, parallel at once */
int load_bulk(const struct options *options);  /* bytes up or down on one channel */
int load_echo(const struct options *options);  /* count round trips of size bytes */
int load_hold(const struct options *options);  /* count idle connections */

/* Prints {"event": ...} and waits for a line. False: stdin ended. */
bool load_wait(const char *event);

#endif
