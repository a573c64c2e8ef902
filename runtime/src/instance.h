/* What an instance is made of. */
#ifndef EDGEC_INSTANCE_H
#define EDGEC_INSTANCE_H

#include "container.h"
#include "file.h"
#include "platform.h"
#include "threads.h"

struct edgec_instance {
  const edgec_model *model;
  const edgec_variant *variant; /* NULL for a model without variants */
  edgec_file file;              /* not mapped where the caller has the weights in memory */
  edgec_container weights;
  unsigned char *arena;
  unsigned char *workspaces; /* one for each thread */
  edgec_pool *pool;          /* NULL for one thread */
  edgec_profile *profile;    /* NULL unless asked for */
  int32_t threads;
  atomic_flag busy; /* set while a thread is in edgec_call */
  char error[EDGEC_ERROR_BYTES];
};

/* Open `model`'s weights into self->file and self->weights. */
edgec_status edgec_open_weights(edgec_instance *self, const char *path,
                                const edgec_options *options, char *error);

/* Set self->variant: the one that is asked for, or the first that the CPU has. */
edgec_status edgec_choose_variant(edgec_instance *self, const char *name, char *error);

#endif
