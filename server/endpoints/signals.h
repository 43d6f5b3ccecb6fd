/* Signals by their names in RFC 4254 section 6.10. Pure. */
#ifndef PARLEY_ENDPOINTS_SIGNALS_H
#define PARLEY_ENDPOINTS_SIGNALS_H

/* 0: none of that name. */
int signal_by_name(const char *name);
/* Those that the RFC does not name get OpenSSH's name for all of them. */
const char *signal_name(int number);

#endif
