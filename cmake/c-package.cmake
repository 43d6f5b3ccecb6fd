file(READ ${FROM} text)
string(REPLACE "package parley.policy.v1;" "package policy;" text "${text}")
file(WRITE ${TO} "${text}")
