/* The child's half of ProcessEndpoint: our own image, started again as
 * `parleyd --process-child PLAN STATUS`, makes itself what the plan says and becomes the program.
 */
#ifndef PARLEY_ENDPOINTS_PROCESS_CHILD_H
#define PARLEY_ENDPOINTS_PROCESS_CHILD_H

#define PROCESS_CHILD_FLAG "--process-child"

/* PLAN and STATUS are numbers of inherited descriptors: a file that holds the plan, and where to
 * write in one sentence why the program could not be started. Returns only then: an exit status. */
int process_child_main(const char *plan, const char *status);

#endif
