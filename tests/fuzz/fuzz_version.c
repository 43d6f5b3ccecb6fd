/* The client's version line (RFC 4253 section 4.2), alone. */
#include "fuzz/feed.h"
#include "transport/version.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct version_line whole = {0}, cut = {0};
    enum version_result result = version_parse(bytes_of(data, len), &whole);

    if (result == VERSION_REFUSED)
        assert(whole.problem != NULL);
    if (result != VERSION_OK)
        return 0;
    assert(whole.consumed <= len && whole.consumed <= VERSION_LINE_MAX);
    assert(whole.line.data == data && whole.line.len < whole.consumed);
    for (size_t i = 0; i < whole.line.len; i++)
        assert(data[i] != '\0' && data[i] != '\n' && data[i] != '\r');
    /* However it arrives: the same line, and nothing before it is whole. */
    for (size_t i = 0; i < whole.consumed; i++)
        assert(version_parse(bytes_of(data, i), &cut) == VERSION_INCOMPLETE);
    assert(version_parse(bytes_of(data, whole.consumed), &cut) == VERSION_OK);
    assert(cut.consumed == whole.consumed && bytes_equal(cut.line, whole.line));
    return 0;
}
