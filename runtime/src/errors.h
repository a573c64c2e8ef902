/* Error texts: `[where] got X; need Y; do Z`, as in the rest of edgec. */
#ifndef EDGEC_ERRORS_H
#define EDGEC_ERRORS_H

#include "edgec/runtime.h"

/* Write a text of at most EDGEC_ERROR_BYTES to `error` (may be NULL); returns `status`. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
edgec_status edgec_explain(char *error, edgec_status status, const char *format, ...);

/* The end of a path: as much as leaves room for the reason behind it. */
const char *edgec_shown_path(const char *path);

#endif
