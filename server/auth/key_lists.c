#include "auth/key_lists.h"

#include "auth/authorized_keys.h"
#include "auth/certificate.h"
#include "auth/revoked.h"
#include "base/log.h"

static struct bytes bytes_from(const ProtobufCBinaryData *data)
{
    return bytes_of(data->data, data->len);
}

void key_lists_set(struct key_lists *lists, const Policy__BeginAuthAnswer *answer)
{
    key_lists_clear(lists);
    buf_put(&lists->authorized_text, bytes_from(&answer->authorized_keys));
    buf_put(&lists->revoked_text, bytes_from(&answer->revoked_keys));
}

bool key_lists_authorize(const struct key_lists *lists)
{
    return lists->authorized_text.len > 0 || lists->authorized != NULL;
}

void key_lists_clear(struct key_lists *lists)
{
    buf_clear(&lists->authorized_text);
    buf_clear(&lists->revoked_text);
    authorized_keys_free(&lists->authorized);
    revoked_free(&lists->revoked);
}

/* ---- reading them */

static void log_line(void *arg, size_t line, const char *why)
{
    log_warn(arg, "authorized_keys_line", log_u64("line", line), log_str("why", why));
}

static void read_authorized(struct key_lists *lists, const char *log_id)
{
    if (lists->authorized_text.len == 0)
        return;
    lists->authorized =
        authorized_keys_parse(buf_bytes(&lists->authorized_text), log_line, (void *)log_id);
    buf_clear(&lists->authorized_text);
}

static void read_revoked(struct key_lists *lists, const char *log_id)
{
    const char *why;

    if (lists->revoked_text.len == 0)
        return;
    lists->revoked = revoked_parse(buf_bytes(&lists->revoked_text), &why);
    buf_clear(&lists->revoked_text);
    if (why != NULL)
        log_warn(log_id, "all_keys_revoked", log_str("why", why));
}

/* ---- asking them */

bool key_lists_revoke(struct key_lists *lists, const struct key_offered *offered,
                      const char *log_id)
{
    const struct certificate *c = offered->certificate;
    struct revoked_query query;

    read_revoked(lists, log_id);
    if (c == NULL)
        return revoked_has_key(lists->revoked, public_key_blob(offered->key));
    query = (struct revoked_query){
        .serial = c->serial,
        .key_id = bytes_of_string(c->key_id),
        .key_blob = public_key_blob(c->key),
        .ca_blob = public_key_blob(c->ca),
    };
    return revoked_has_certificate(lists->revoked, &query);
}

static bool stands_for(const struct authorized_line *line, const struct certificate *c)
{
    if (line->principals == NULL)
        return true;
    for (size_t i = 0; i < c->principals_count; i++)
        if (authorized_line_names(line, bytes_of_string(c->principals[i])))
            return true;
    return false;
}

static struct key_verdict try_line(const struct authorized_line *line,
                                   const struct key_offered *offered, struct grant *credential)
{
    struct key_verdict verdict = {.standing = KEY_LISTED, .line = line->number};
    struct certificate_use use = {offered->user, line->principals, offered->peer_ip,
                                  offered->now_s};

    if (offered->certificate != NULL && !stands_for(line, offered->certificate)) {
        verdict.standing = KEY_UNLISTED;
        return verdict;
    }
    if (offered->certificate != NULL)
        verdict.why = certificate_accept(offered->certificate, &use, credential);
    if (verdict.why != NULL)
        verdict.standing = KEY_REFUSED;
    else
        grant_add(credential, line->restrictions);
    return verdict;
}

struct key_verdict key_lists_find(struct key_lists *lists, const struct key_offered *offered,
                                  struct grant *credential, const char *log_id)
{
    const struct certificate *c = offered->certificate;
    struct authorized_query query = {
        .blob = public_key_blob(c ? c->ca : offered->key),
        .cert_authority = c != NULL,
        .peer_ip = offered->peer_ip,
        .now = offered->now_s,
    };
    struct key_verdict best = {.standing = KEY_UNLISTED};
    struct authorized_line *line;
    size_t cursor = 0;

    read_authorized(lists, log_id);
    while (lists->authorized != NULL && best.standing != KEY_LISTED &&
           (line = authorized_keys_find(lists->authorized, &query, &cursor)) != NULL) {
        struct key_verdict verdict = try_line(line, offered, credential);

        if (verdict.standing != KEY_UNLISTED)
            best = verdict;
        authorized_line_free(&line);
    }
    return best;
}
