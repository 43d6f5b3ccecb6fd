/*
 * A user's key and a signature of any shape (RFC 4253 section 6.6, RFC 5656, OpenSSH PROTOCOL.u2f).
 *
 * Input: four strings: the key's blob, the algorithm, the signature, what it should sign.
 */
#include "base/reader.h"
#include "fuzz/feed.h"
#include "transport/transport.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void check_key(const struct public_key *key)
{
    char *fingerprint = public_key_fingerprint(key), *line = public_key_openssh(key);

    assert(strlen(fingerprint) == strlen("SHA256:") + 43);
    assert(strncmp(line, public_key_type(key), strlen(public_key_type(key))) == 0);
    assert(public_key_bits(key) >= 256 && public_key_bits(key) <= 16384);
    free(fingerprint);
    free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct reader r = reader_of(bytes_of(data, len));
    struct bytes blob = reader_string(&r), algorithm = reader_string(&r);
    struct bytes signature = reader_string(&r), signed_data = reader_string(&r);
    struct public_key *key = public_key_parse(blob);
    struct signature_facts facts = {true, true};

    if (key == NULL)
        return 0;
    check_key(key);
    if (public_key_verify(key, algorithm, signature, signed_data, &facts)) {
        struct reader type = reader_of(signature);

        assert(public_key_allows(key, algorithm) && bytes_equal(reader_string(&type), algorithm));
    } else {
        assert(!facts.user_present && !facts.user_verified);
    }
    public_key_free(&key);
    return 0;
}
