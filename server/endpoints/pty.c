#include "endpoints/pty.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define NO_CHARACTER 255 /* RFC 4254 section 8: the client has none */

/* RFC 4254 section 8, RFC 8160. Absent here: DSUSP (11), FLUSH (15) and STATUS (17), which Linux
 * does not have. */
static const struct {
    uint8_t opcode, index;
} characters[] = {
    {1, VINTR},     {2, VQUIT},    {3, VERASE},  {4, VKILL},  {5, VEOF},
    {6, VEOL},      {7, VEOL2},    {8, VSTART},  {9, VSTOP},  {10, VSUSP},
    {12, VREPRINT}, {13, VWERASE}, {14, VLNEXT}, {16, VSWTC}, {18, VDISCARD},
};

enum flag_word { INPUT, OUTPUT, CONTROL, LOCAL };

static const struct {
    uint8_t opcode;
    enum flag_word word;
    tcflag_t bits;
} flags[] = {
    {30, INPUT, IGNPAR}, {31, INPUT, PARMRK}, {32, INPUT, INPCK},    {33, INPUT, ISTRIP},
    {34, INPUT, INLCR},  {35, INPUT, IGNCR},  {36, INPUT, ICRNL},    {37, INPUT, IUCLC},
    {38, INPUT, IXON},   {39, INPUT, IXANY},  {40, INPUT, IXOFF},    {41, INPUT, IMAXBEL},
    {42, INPUT, IUTF8},  {50, LOCAL, ISIG},   {51, LOCAL, ICANON},   {52, LOCAL, XCASE},
    {53, LOCAL, ECHO},   {54, LOCAL, ECHOE},  {55, LOCAL, ECHOK},    {56, LOCAL, ECHONL},
    {57, LOCAL, NOFLSH}, {58, LOCAL, TOSTOP}, {59, LOCAL, IEXTEN},   {60, LOCAL, ECHOCTL},
    {61, LOCAL, ECHOKE}, {62, LOCAL, PENDIN}, {70, OUTPUT, OPOST},   {71, OUTPUT, OLCUC},
    {72, OUTPUT, ONLCR}, {73, OUTPUT, OCRNL}, {74, OUTPUT, ONOCR},   {75, OUTPUT, ONLRET},
    {90, CONTROL, CS7},  {91, CONTROL, CS8},  {92, CONTROL, PARENB}, {93, CONTROL, PARODD},
};

enum { OPCODE_CS7 = 90, OPCODE_CS8 = 91, OPCODE_INPUT_SPEED = 128, OPCODE_OUTPUT_SPEED = 129 };

static const struct {
    uint32_t baud;
    speed_t speed;
} speeds[] = {
    {0, B0},
    {50, B50},
    {75, B75},
    {110, B110},
    {134, B134},
    {150, B150},
    {200, B200},
    {300, B300},
    {600, B600},
    {1200, B1200},
    {1800, B1800},
    {2400, B2400},
    {4800, B4800},
    {9600, B9600},
    {19200, B19200},
    {38400, B38400},
    {57600, B57600},
    {115200, B115200},
    {230400, B230400},
    {460800, B460800},
    {500000, B500000},
    {576000, B576000},
    {921600, B921600},
    {1000000, B1000000},
    {1152000, B1152000},
    {1500000, B1500000},
    {2000000, B2000000},
    {2500000, B2500000},
    {3000000, B3000000},
    {3500000, B3500000},
    {4000000, B4000000},
};

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static tcflag_t *word_of(struct termios *modes, enum flag_word word)
{
    switch (word) {
    case INPUT:
        return &modes->c_iflag;
    case OUTPUT:
        return &modes->c_oflag;
    case CONTROL:
        return &modes->c_cflag;
    default:
        return &modes->c_lflag;
    }
}

/* CS7 and CS8 share bits: the one that is set counts, not the one that is not. */
static void apply_flag(struct termios *modes, size_t row, bool on)
{
    tcflag_t *word = word_of(modes, flags[row].word);

    if (flags[row].opcode == OPCODE_CS7 || flags[row].opcode == OPCODE_CS8) {
        if (on)
            *word = (*word & ~(tcflag_t)CSIZE) | flags[row].bits;
    } else if (on) {
        *word |= flags[row].bits;
    } else {
        *word &= ~flags[row].bits;
    }
}

static void apply_speed(struct termios *modes, uint32_t opcode, uint32_t baud)
{
    for (size_t i = 0; i < COUNT(speeds); i++) {
        if (speeds[i].baud != baud)
            continue;
        if (opcode == OPCODE_INPUT_SPEED)
            cfsetispeed(modes, speeds[i].speed);
        else
            cfsetospeed(modes, speeds[i].speed);
    }
}

void pty_apply_mode(struct termios *modes, uint32_t opcode, uint32_t value)
{
    if (opcode == OPCODE_INPUT_SPEED || opcode == OPCODE_OUTPUT_SPEED)
        apply_speed(modes, opcode, value);
    for (size_t i = 0; i < COUNT(characters); i++)
        if (characters[i].opcode == opcode)
            modes->c_cc[characters[i].index] =
                value == NO_CHARACTER ? _POSIX_VDISABLE : (cc_t)value;
    for (size_t i = 0; i < COUNT(flags); i++)
        if (flags[i].opcode == opcode)
            apply_flag(modes, i, value != 0);
}

static void apply_modes(int slave, const Policy__Pty *pty)
{
    struct termios modes;

    if (pty->n_modes == 0 || tcgetattr(slave, &modes) != 0)
        return;
    for (size_t i = 0; i < pty->n_modes; i++)
        pty_apply_mode(&modes, pty->modes[i]->opcode, pty->modes[i]->value);
    tcsetattr(slave, TCSANOW, &modes);
}

static unsigned short cells(uint32_t count)
{
    return count > 0xffff ? 0xffff : (unsigned short)count;
}

void pty_resize(int master, const Policy__WindowSize *size)
{
    struct winsize window = {
        .ws_row = cells(size->rows),
        .ws_col = cells(size->columns),
        .ws_xpixel = cells(size->width_px),
        .ws_ypixel = cells(size->height_px),
    };

    ioctl(master, TIOCSWINSZ, &window);
}

bool pty_open(const Policy__Pty *pty, int *master, int *slave)
{
    *slave = -1;
    *master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (*master < 0)
        return false;
    if (grantpt(*master) == 0 && unlockpt(*master) == 0) /* by descriptor: no path can be swapped */
        *slave = ioctl(*master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (*slave < 0) {
        int error = errno;

        close(*master);
        *master = -1;
        errno = error;
        return false;
    }
    apply_modes(*slave, pty);
    if (pty->size != NULL)
        pty_resize(*master, pty->size);
    return true;
}

bool pty_break(int master)
{
    struct termios modes;

    if (tcgetattr(master, &modes) != 0)
        return false;
    if (modes.c_iflag & IGNBRK)
        return true;
    if (modes.c_iflag & BRKINT)
        return ioctl(master, TIOCSIG, SIGINT) == 0;
    return write(master, "", 1) == 1; /* a NUL, which is what the program reads then */
}
