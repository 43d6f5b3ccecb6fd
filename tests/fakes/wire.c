#include "fakes/wire.h"

#include <assert.h>

static void put_field(struct buf *out, char kind, va_list *args)
{
    switch (kind) {
    case ' ':
        break;
    case 'c':
        buf_put_u8(out, (uint8_t)va_arg(*args, int));
        break;
    case 'b':
        buf_put_bool(out, va_arg(*args, int) != 0);
        break;
    case 'u':
        buf_put_u32(out, va_arg(*args, uint32_t));
        break;
    case 's':
        buf_put_cstring(out, va_arg(*args, const char *));
        break;
    case 'S':
        buf_put_string(out, va_arg(*args, struct bytes));
        break;
    case 'R':
        buf_put(out, va_arg(*args, struct bytes));
        break;
    default:
        assert(!"a field kind that wire.h does not know");
    }
}

void wire_vput(struct buf *out, const char *format, va_list args)
{
    va_list copy; /* where va_list is an array, a parameter cannot be passed by address */

    va_copy(copy, args);
    for (; *format != '\0'; format++)
        put_field(out, *format, &copy);
    va_end(copy);
}

void wire_put(struct buf *out, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    wire_vput(out, format, args);
    va_end(args);
}
