/* Names and texts of statuses, sizes of dtypes, indices. */
#include "edgec/runtime.h"
#include "expect.h"

static const edgec_status all[] = {EDGEC_OK,
                                   EDGEC_NULL_ARGUMENT,
                                   EDGEC_MISALIGNED,
                                   EDGEC_DIM_OUT_OF_RANGE,
                                   EDGEC_INDEX_OUT_OF_RANGE,
                                   EDGEC_BUSY,
                                   EDGEC_NO_SUCH_NAME,
                                   EDGEC_BAD_OPTION,
                                   EDGEC_PATTERN_MISFIT,
                                   EDGEC_TOO_LONG,
                                   EDGEC_BAD_TEXT,
                                   EDGEC_CANNOT_OPEN,
                                   EDGEC_TRUNCATED,
                                   EDGEC_DAMAGED,
                                   EDGEC_OTHER_MODEL,
                                   EDGEC_OTHER_VERSION,
                                   EDGEC_OUT_OF_MEMORY,
                                   EDGEC_NO_THREADS,
                                   EDGEC_UNSUPPORTED_CPU};

static void every_status_has_a_name_and_a_text(void) {
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
    EXPECT(!strncmp(edgec_status_name(all[i]), "EDGEC_", 6));
    EXPECT(strcmp(edgec_status_name(all[i]), "EDGEC_?"));
    EXPECT(strlen(edgec_status_text(all[i])) > 8);
    for (size_t j = 0; j < i; j++) {
      EXPECT(strcmp(edgec_status_name(all[i]), edgec_status_name(all[j])));
    }
  }
  EXPECT(!strcmp(edgec_status_name(EDGEC_BUSY), "EDGEC_BUSY"));
}

static void other_numbers_are_no_status(void) {
  EXPECT(!strcmp(edgec_status_name((edgec_status)12345), "EDGEC_?"));
  EXPECT(strlen(edgec_status_text((edgec_status)12345)));
}

static void dtypes_have_their_sizes(void) {
  EXPECT(edgec_dtype_bytes(EDGEC_F64) == 8 && edgec_dtype_bytes(EDGEC_I64) == 8);
  EXPECT(edgec_dtype_bytes(EDGEC_F32) == 4 && edgec_dtype_bytes(EDGEC_I32) == 4);
  EXPECT(edgec_dtype_bytes(EDGEC_F16) == 2 && edgec_dtype_bytes(EDGEC_BF16) == 2);
  EXPECT(edgec_dtype_bytes(EDGEC_I16) == 2 && edgec_dtype_bytes(EDGEC_I8) == 1);
  EXPECT(edgec_dtype_bytes(EDGEC_U8) == 1 && edgec_dtype_bytes(EDGEC_BOOL) == 1);
  EXPECT(edgec_dtype_bytes((edgec_dtype)99) == 0);
}

int main(void) {
  RUN(every_status_has_a_name_and_a_text);
  RUN(other_numbers_are_no_status);
  RUN(dtypes_have_their_sizes);
  return 0;
}
