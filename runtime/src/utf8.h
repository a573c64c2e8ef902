/* UTF-8, byte by byte. */
#ifndef EDGEC_UTF8_H
#define EDGEC_UTF8_H

#include <stdint.h>

/* Bytes of the character that `text`, of `bytes` > 0, begins with, and its code point; 0 for none:
 * stray, missing or surplus bytes, surrogates, more than U+10FFFF. */
int32_t edgec_utf8_next(const unsigned char *text, int32_t bytes, uint32_t *code);

/* Bytes that a character takes by its first byte alone. */
int32_t edgec_utf8_width(unsigned char first);

/* What Python's str.isspace says. */
int edgec_is_space(uint32_t code);

/* [begin, end) without the spaces at its sides. */
int32_t edgec_skip_spaces(const unsigned char *text, int32_t begin, int32_t end);
int32_t edgec_drop_spaces(const unsigned char *text, int32_t begin, int32_t end);

#endif
