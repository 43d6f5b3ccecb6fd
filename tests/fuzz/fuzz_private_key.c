/* Private keys as text, and, behind a first byte that names the armour, as what is inside it. */
#include "base/bytes.h"
#include "fuzz/feed.h"
#include "transport/transport.h"

#include <openssl/evp.h>
#include <stdlib.h>

static void put_armour(struct buf *text, const char *label, struct bytes data)
{
    size_t len = (data.len + 2) / 3 * 4;
    unsigned char *line = malloc(len + 1);

    EVP_EncodeBlock(line, data.data, (int)data.len);
    buf_put(text, BYTES("-----BEGIN "));
    buf_put(text, bytes_of_string(label));
    buf_put(text, BYTES("-----\n"));
    buf_put(text, bytes_of(line, len));
    buf_put(text, BYTES("\n-----END "));
    buf_put(text, bytes_of_string(label));
    buf_put(text, BYTES("-----\n"));
    free(line);
}

/* Whatever is taken signs for its own public half. */
static void try(struct bytes text)
{
    const char *why = NULL, *type;
    struct private_key *key = private_key_parse(text, &why);
    struct buf signature = {0};

    if ((key == NULL) != (why != NULL))
        abort();
    if (key == NULL)
        return;
    type = public_key_type(private_key_public(key));
    if (type[4] == 'r')
        type = "rsa-sha2-256";
    if (private_key_sign(key, type, BYTES("data"), &signature) &&
        !public_key_verify(private_key_public(key), bytes_of_string(type), buf_bytes(&signature),
                           BYTES("data"), NULL))
        abort();
    buf_clear(&signature);
    private_key_free(&key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const char *const labels[] = {"RSA PRIVATE KEY", "EC PRIVATE KEY", "PRIVATE KEY",
                                         "OPENSSH PRIVATE KEY"};
    struct bytes feed = bytes_of(data, len);
    struct buf text = {0};
    uint8_t how;

    try(feed);
    how = feed_u8(&feed);
    put_armour(&text, labels[how & 3], feed);
    try(buf_bytes(&text));
    buf_clear(&text);
    return 0;
}
