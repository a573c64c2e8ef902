/* Writer of what a check got: a container of kind CALLS with the outputs. */
#ifndef EDGEC_OUTPUTS_H
#define EDGEC_OUTPUTS_H

#include "golden.h"

edgec_status outputs_write(const char *path, const edgec_model *model, const golden_file *golden,
                           char *error);

#endif
