/* What the policy is told without being asked: ConnectionLost, DebugMsgReceived. */
#include "conn/internal.h"

#include "base/alloc.h"
#include "base/log.h"
#include "base/reader.h"

#include <stdlib.h>

/* Reports wait for nobody, so a client could make us hold any number of them. */
#define DEBUG_MESSAGES_MAX   256
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

void report_debug(struct conn *conn, struct bytes message)
{
    Policy__DebugMsgReceivedRequest report = POLICY__DEBUG_MSG_RECEIVED_REQUEST__INIT;
    struct reader r = reader_of(message);
    bool always_display = reader_bool(&r);
    struct bytes text = reader_text(&r), language = reader_text(&r);
    uint32_t max =
        conn->state == CONN_OPEN ? DEBUG_MESSAGES_MAX : conn->conns->settings.max_debug_messages;

    if (!reader_end(&r) || text.len > DEBUG_TEXT_MAX_BYTES || language.len > 64)
        return; /* RFC 4253 section 11.3 lets us ignore it */
    if (conn->debug_messages >= max) {
        if (conn->debug_messages++ == max)
            log_warn(asker_connection_id(conn->asker), "debug_messages_dropped",
                     log_u64("after", max));
        return;
    }
    conn->debug_messages++;
    report.message = bytes_to_string(text);
    report.language = bytes_to_string(language);
    report.always_display = always_display;
    asker_report(conn->asker, RPC_DEBUG_MSG_RECEIVED, &report.base);
    free(report.message);
    free(report.language);
}
