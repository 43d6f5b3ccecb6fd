/* What the policy is told without being asked: ConnectionLost, DebugMsgReceived. */
#include "conn/internal.h"

#include "base/alloc.h"
#include "base/log.h"
#include "base/reader.h"

#include <stdlib.h>

/* Reports wait for nobody, so a client could make us hold any number of them. */
#define DEBUG_BURST_MAX      256 /* after login; and one more for each interval */
#define DEBUG_INTERVAL_MS    100
#define DEBUG_TEXT_MAX_BYTES 4096

void report_lost(struct conn *conn)
{
    Policy__ConnectionLostRequest report = POLICY__CONNECTION_LOST_REQUEST__INIT;
    uint64_t duration = clock_ms() - conn->accepted_ms;

    report.clean = conn->clean;
    report.reason = conn->end_reason;
    report.disconnect_code = conn->end_code;
    report.duration_ms = duration;
    report.bytes_received = transport_bytes_received(conn->transport);
    report.bytes_sent = transport_bytes_sent(conn->transport);
    log_info(asker_connection_id(conn->asker), "closed", log_str("reason", conn->end_reason),
             log_u64("code", conn->end_code), log_str("clean", conn->clean ? "yes" : "no"),
             log_str("user", asker_user(conn->asker)), log_u64("ms", duration),
             log_u64("bytes_in", report.bytes_received), log_u64("bytes_out", report.bytes_sent));
    asker_report(conn->asker, RPC_CONNECTION_LOST, &report.base);
}

/* A bucket that fills again. */
static bool take_after_login(struct conn *conn)
{
    uint64_t now = clock_ms(), more = (now - conn->debug_counted_ms) / DEBUG_INTERVAL_MS;

    conn->debug_counted_ms += more * DEBUG_INTERVAL_MS;
    conn->debug_messages -= (uint32_t)(more < conn->debug_messages ? more : conn->debug_messages);
    return conn->debug_messages < DEBUG_BURST_MAX;
}

/* False: it is one too many. The first of those is logged. */
static bool take_debug(struct conn *conn)
{
    bool taken = conn->state == CONN_OPEN
                     ? take_after_login(conn)
                     : conn->debug_messages < conn->conns->settings.max_debug_messages;

    if (taken)
        conn->debug_messages++;
    else if (!conn->debug_dropped)
        log_warn(asker_connection_id(conn->asker), "debug_messages_dropped",
                 log_u64("after", conn->debug_messages));
    conn->debug_dropped = conn->debug_dropped || !taken;
    return taken;
}

void report_debug(struct conn *conn, struct bytes message)
{
    Policy__DebugMsgReceivedRequest report = POLICY__DEBUG_MSG_RECEIVED_REQUEST__INIT;
    struct reader r = reader_of(message);
    bool always_display = reader_bool(&r);
    struct bytes text = reader_text(&r), language = reader_text(&r);

    if (!reader_end(&r) || text.len > DEBUG_TEXT_MAX_BYTES || language.len > 64)
        return; /* RFC 4253 section 11.3 lets us ignore it */
    if (!take_debug(conn))
        return;
    report.message = bytes_to_string(text);
    report.language = bytes_to_string(language);
    report.always_display = always_display;
    asker_report(conn->asker, RPC_DEBUG_MSG_RECEIVED, &report.base);
    free(report.message);
    free(report.language);
}
