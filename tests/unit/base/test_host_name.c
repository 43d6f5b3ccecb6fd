/* What an address is called, with a resolver that its owner fills as he likes. */
#include "unit/cmocka_unit.h"

#include "base/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *reverse_name;     /* what the address's zone says; NULL: nothing */
static const char *forward_name;     /* the one name that can be looked up */
static const char *const *addresses; /* and what it leads to */

/* ---- in the place of the resolver */

int getnameinfo(const struct sockaddr *restrict address, socklen_t len, char *restrict host,
                socklen_t host_size, char *restrict service, socklen_t service_size, int flags)
{
    (void)address;
    (void)len;
    (void)service;
    (void)service_size;
    assert_int_equal(flags, NI_NAMEREQD);
    if (reverse_name == NULL)
        return EAI_NONAME;
    snprintf(host, host_size, "%s", reverse_name);
    return 0;
}

static struct addrinfo *entry(const char *ip, struct addrinfo *next)
{
    struct addrinfo *info = calloc(1, sizeof(*info));
    struct sockaddr_storage *address = calloc(1, sizeof(*address));
    struct sockaddr_in *v4 = (struct sockaddr_in *)address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;

    info->ai_next = next;
    info->ai_addr = (struct sockaddr *)address;
    info->ai_addrlen = sizeof(*address);
    if (inet_pton(AF_INET, ip, &v4->sin_addr) == 1)
        address->ss_family = AF_INET;
    else if (inet_pton(AF_INET6, ip, &v6->sin6_addr) == 1)
        address->ss_family = AF_INET6;
    return info;
}

int getaddrinfo(const char *restrict name, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict out)
{
    (void)service;
    *out = NULL;
    if ((hints->ai_flags & AI_NUMERICHOST) != 0) {
        struct addrinfo *info = entry(name, NULL);

        if (info->ai_addr->sa_family != AF_UNSPEC)
            *out = info;
        else
            freeaddrinfo(info);
    } else if (forward_name != NULL && strcmp(name, forward_name) == 0) {
        for (const char *const *ip = addresses; *ip != NULL; ip++)
            *out = entry(*ip, *out);
    }
    return *out != NULL ? 0 : EAI_NONAME;
}

void freeaddrinfo(struct addrinfo *info)
{
    while (info != NULL) {
        struct addrinfo *next = info->ai_next;

        free(info->ai_addr);
        free(info);
        info = next;
    }
}

/* ---- tests */

static void expect_name(const char *ip, const char *name)
{
    char *found = address_host_name(ip);

    assert_string_equal(found, name);
    free(found);
}

static void a_name_leads_there_and_back(void **state)
{
    static const char *const both[] = {"192.0.2.1", "2001:db8::7", "192.0.2.7", NULL};

    (void)state;
    reverse_name = forward_name = "Client.Example";
    addresses = both;
    expect_name("192.0.2.7", "client.example");
    expect_name("2001:db8::7", "client.example");
    expect_name("192.0.2.8", "192.0.2.8"); /* the zone lies */
}

static void a_name_that_leads_nowhere_is_none(void **state)
{
    (void)state;
    reverse_name = "trusted.example";
    forward_name = NULL;
    expect_name("192.0.2.7", "192.0.2.7");
    reverse_name = NULL;
    expect_name("192.0.2.7", "192.0.2.7");
    expect_name("2001:db8::7", "2001:db8::7");
}

static void what_is_no_host_name_is_none(void **state)
{
    static const char *const names[] = {"192.0.2.7", "192.0.2.9", "2001:db8::7", "",     "a b",
                                        "a\nb",      "a,b",       "a\x7f",       "h\xc3"};
    static const char *const there[] = {"192.0.2.7", NULL};

    (void)state;
    addresses = there;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        reverse_name = forward_name = names[i];
        expect_name("192.0.2.7", "192.0.2.7");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_leads_there_and_back),
        cmocka_unit_test(a_name_that_leads_nowhere_is_none),
        cmocka_unit_test(what_is_no_host_name_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
