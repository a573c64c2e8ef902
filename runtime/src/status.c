/* Statuses, their names and texts, sizes of dtypes. */
#include "errors.h"
#include "platform.h"

typedef struct status_text {
  edgec_status status;
  const char *name, *text;
} status_text;

static const status_text texts[] = {
    {EDGEC_OK, "EDGEC_OK", "no failure"},
    {EDGEC_NULL_ARGUMENT, "EDGEC_NULL_ARGUMENT", "a pointer that must be given is NULL"},
    {EDGEC_MISALIGNED, "EDGEC_MISALIGNED",
     "a buffer does not lie at a multiple of its element size"},
    {EDGEC_DIM_OUT_OF_RANGE, "EDGEC_DIM_OUT_OF_RANGE", "a dim is outside of the model's range"},
    {EDGEC_INDEX_OUT_OF_RANGE, "EDGEC_INDEX_OUT_OF_RANGE",
     "an index, such as a token id, is too large or negative"},
    {EDGEC_BUSY, "EDGEC_BUSY",
     "another thread is in a call of this instance; need one instance per thread"},
    {EDGEC_NO_SUCH_NAME, "EDGEC_NO_SUCH_NAME", "no function or variant has this name or number"},
    {EDGEC_BAD_OPTION, "EDGEC_BAD_OPTION", "an option has a value that it cannot have"},
    {EDGEC_PATTERN_MISFIT, "EDGEC_PATTERN_MISFIT", "the attention pattern does not fit these dims"},
    {EDGEC_TOO_LONG, "EDGEC_TOO_LONG", "a text does not fit into the room that there is for it"},
    {EDGEC_BAD_TEXT, "EDGEC_BAD_TEXT", "a text is not UTF-8"},
    {EDGEC_CANNOT_OPEN, "EDGEC_CANNOT_OPEN", "the file cannot be opened or read"},
    {EDGEC_TRUNCATED, "EDGEC_TRUNCATED", "the file is shorter than it says"},
    {EDGEC_DAMAGED, "EDGEC_DAMAGED", "the file is not what was written, or of another kind"},
    {EDGEC_OTHER_MODEL, "EDGEC_OTHER_MODEL", "the weights belong to another model"},
    {EDGEC_OTHER_VERSION, "EDGEC_OTHER_VERSION",
     "the file or the model was made for another version of this library"},
    {EDGEC_OUT_OF_MEMORY, "EDGEC_OUT_OF_MEMORY", "there is not enough memory"},
    {EDGEC_NO_THREADS, "EDGEC_NO_THREADS", "the threads cannot be started"},
    {EDGEC_UNSUPPORTED_CPU, "EDGEC_UNSUPPORTED_CPU", "no variant of the model runs on this CPU"},
};

static const status_text *find(edgec_status status) {
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    if (texts[i].status == status) return &texts[i];
  }
  return NULL;
}

const char *edgec_status_name(edgec_status status) {
  const status_text *found = find(status);
  return found ? found->name : "EDGEC_?";
}

const char *edgec_status_text(edgec_status status) {
  const status_text *found = find(status);
  return found ? found->text : "no status of this library";
}

size_t edgec_dtype_bytes(edgec_dtype dtype) {
  switch (dtype) {
    case EDGEC_F64:
    case EDGEC_I64:
      return 8;
    case EDGEC_F32:
    case EDGEC_I32:
      return 4;
    case EDGEC_F16:
    case EDGEC_BF16:
    case EDGEC_I16:
      return 2;
    case EDGEC_I8:
    case EDGEC_U8:
    case EDGEC_BOOL:
      return 1;
  }
  return 0; /* no dtype */
}

edgec_status edgec_explain(char *error, edgec_status status, const char *format, ...) {
  if (error) {
    va_list arguments;
    va_start(arguments, format);
    edgec_format(error, EDGEC_ERROR_BYTES, format, arguments);
    va_end(arguments);
  }
  return status;
}

enum { SHOWN_BYTES = 100 };

const char *edgec_shown_path(const char *path) {
  size_t length = strlen(path);
  return length <= SHOWN_BYTES ? path : path + length - SHOWN_BYTES;
}
