/* Choice of a model's kernels by instruction set. */
#include "errors.h"
#include "instance.h"

static int runs_here(const edgec_variant *variant) {
  return !variant->supported || variant->supported();
}

/* "a, b, c" of the model's variants, cut where it does not fit. */
static void list_variants(const edgec_model *model, char *text, size_t size) {
  size_t used = 0;
  for (int32_t i = 0; i < model->n_variants; i++) {
    const char *name = model->variants[i].name;
    size_t length = strlen(name);
    if (used + length + 3 > size) break;
    if (i) text[used++] = ',', text[used++] = ' ';
    memcpy(text + used, name, length);
    used += length;
  }
  text[used] = 0;
}

static edgec_status choose_by_name(edgec_instance *self, const char *name, char *error) {
  const edgec_model *model = self->model;
  for (int32_t i = 0; i < model->n_variants; i++) {
    const edgec_variant *variant = &model->variants[i];
    if (strcmp(variant->name, name)) continue;
    if (!runs_here(variant)) {
      return edgec_explain(error, EDGEC_UNSUPPORTED_CPU,
                           "[variant] got %s; need a CPU that has it; leave the choice to edgec",
                           name);
    }
    self->variant = variant;
    return EDGEC_OK;
  }
  char known[128];
  list_variants(model, known, sizeof known);
  return edgec_explain(error, EDGEC_NO_SUCH_NAME, "[variant] got %s; need one of: %s", name, known);
}

edgec_status edgec_choose_variant(edgec_instance *self, const char *name, char *error) {
  const edgec_model *model = self->model;
  if (name) return choose_by_name(self, name, error);
  if (model->n_variants == 0) return EDGEC_OK;
  for (int32_t i = 0; i < model->n_variants; i++) {
    if (runs_here(&model->variants[i])) {
      self->variant = &model->variants[i];
      return EDGEC_OK;
    }
  }
  char known[128];
  list_variants(model, known, sizeof known);
  return edgec_explain(error, EDGEC_UNSUPPORTED_CPU,
                       "[%s] got a CPU without any of: %s; build the model for it", model->name,
                       known);
}
