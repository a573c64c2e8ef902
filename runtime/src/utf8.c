/* UTF-8 as RFC 3629 has it. */
#include "utf8.h"

int32_t edgec_utf8_width(unsigned char first) {
  return first < 0xC0 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

int32_t edgec_utf8_next(const unsigned char *text, int32_t bytes, uint32_t *code) {
  static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  unsigned char first = text[0];
  if (first < 0x80) {
    *code = first;
    return 1;
  }
  int32_t width = edgec_utf8_width(first);
  if (width == 1 || first >= 0xF8 || bytes < width) return 0;
  uint32_t made = first & (0xFFu >> (width + 1));
  for (int32_t i = 1; i < width; i++) {
    if ((text[i] & 0xC0) != 0x80) return 0;
    made = made << 6 | (text[i] & 0x3Fu);
  }
  if (made < least[width] || made > 0x10FFFF || (made >= 0xD800 && made < 0xE000)) return 0;
  *code = made;
  return width;
}

int edgec_is_space(uint32_t code) {
  if (code < 0x80) return code == ' ' || (code >= 9 && code <= 13) || (code >= 28 && code <= 31);
  return code == 0x85 || code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) ||
         code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

int32_t edgec_skip_spaces(const unsigned char *text, int32_t begin, int32_t end) {
  uint32_t code;
  while (begin < end) {
    int32_t width = edgec_utf8_next(text + begin, end - begin, &code);
    if (width == 0 || !edgec_is_space(code)) break;
    begin += width;
  }
  return begin;
}

int32_t edgec_drop_spaces(const unsigned char *text, int32_t begin, int32_t end) {
  while (begin < end) {
    int32_t start = end - 1;
    uint32_t code;
    while (start > begin && end - start < 4 && (text[start] & 0xC0) == 0x80) start--;
    int32_t width = edgec_utf8_next(text + start, end - start, &code);
    if (width != end - start || !edgec_is_space(code)) break;
    end = start;
  }
  return end;
}
