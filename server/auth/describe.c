#include "auth/describe.h"

#include "base/alloc.h"

#include <stdlib.h>

static ProtobufCBinaryData binary(struct bytes b)
{
    return (ProtobufCBinaryData){.len = b.len, .data = (uint8_t *)b.data};
}

void describe_key(struct described_key *out, const struct public_key *key)
{
    policy__public_key__init(&out->key);
    out->key.algorithm = (char *)public_key_type(key);
    out->key.blob = binary(public_key_blob(key));
    out->key.fingerprint = public_key_fingerprint(key);
    out->key.openssh = public_key_openssh(key);
    out->key.bits = public_key_bits(key);
}

void described_key_clear(struct described_key *described)
{
    free(described->key.fingerprint);
    free(described->key.openssh);
}

static void describe_options(Policy__NamedValue *values, Policy__NamedValue **references,
                             const struct certificate_options *options)
{
    for (size_t i = 0; i < options->count; i++) {
        policy__named_value__init(&values[i]);
        values[i].name = options->list[i].name;
        values[i].value = binary(options->list[i].data);
        references[i] = &values[i];
    }
}

void describe_certificate(struct described_certificate *out, const struct certificate *c)
{
    size_t critical = c->critical.count, all = critical + c->extensions.count;
    Policy__Certificate *to = &out->certificate;

    describe_key(&out->ca, c->ca);
    out->values = xcalloc(all, sizeof(*out->values));
    out->references = xcalloc(all, sizeof(Policy__NamedValue *));
    describe_options(out->values, out->references, &c->critical);
    describe_options(out->values + critical, out->references + critical, &c->extensions);
    policy__certificate__init(to);
    to->type = (char *)(c->kind == CERTIFICATE_USER ? "user" : "host");
    to->serial = c->serial;
    to->key_id = c->key_id;
    to->principals = c->principals;
    to->n_principals = c->principals_count;
    to->valid_after = c->valid_after;
    to->valid_before = c->valid_before;
    to->critical_options = out->references;
    to->n_critical_options = critical;
    to->extensions = out->references + critical;
    to->n_extensions = c->extensions.count;
    to->ca = &out->ca.key;
    to->blob = binary(buf_bytes(&c->blob));
}

void described_certificate_clear(struct described_certificate *described)
{
    described_key_clear(&described->ca);
    free(described->values);
    free(described->references);
}
