/* An OpenSSH certificate of any shape, down to what a user's login takes of it. */
#include "auth/certificate.h"
#include "fuzz/feed.h"

#include <assert.h>
#include <string.h>

static void check_lists(const struct certificate *c)
{
    struct bytes text;

    assert(c->principals_count <= 256 && c->critical.count <= 256 && c->extensions.count <= 256);
    for (size_t i = 0; i < c->principals_count; i++)
        assert(text_is_clean(bytes_of_string(c->principals[i])));
    for (size_t i = 0; i < c->critical.count; i++) {
        const struct certificate_option *option = &c->critical.list[i];

        assert(certificate_option(&c->critical, option->name) == option);
        if (certificate_option_text(option, &text))
            assert(text.len + 4 == option->data.len);
    }
}

static void check_use(const struct certificate *c)
{
    struct certificate_use use = {.user = "alice", .peer_ip = "192.0.2.7", .now_s = c->valid_after};
    struct grant credential = {0};

    if (certificate_accept(c, &use, &credential) == NULL) {
        assert(c->kind == CERTIFICATE_USER && certificate_names(c, BYTES("alice")));
        assert(c->valid_after < c->valid_before && credential.count == 1);
        assert(grant_refusal(&credential, use.peer_ip) == NULL);
    } else {
        assert(credential.count == 0);
    }
    grant_clear(&credential);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const char *why;
    struct certificate *c = certificate_parse(bytes_of(data, len), &why);

    assert((c == NULL) == (why != NULL));
    if (c == NULL)
        return 0;
    assert(certificate_is_claimed(bytes_of(data, len)));
    assert(text_is_clean(bytes_of_string(c->key_id)));
    assert(certificate_allows(c, bytes_of_string("ssh-rsa-cert-v01@openssh.com")) == NULL);
    check_lists(c);
    check_use(c);
    if (certificate_verify(c))
        assert(public_key_allows(c->ca, c->signature_algorithm));
    certificate_free(&c);
    return 0;
}
