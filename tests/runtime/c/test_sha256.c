/* SHA-256 against the examples of FIPS 180-2, appendix B, in pieces of any size. */
#include "expect.h"
#include "sha256.h"

static void hash(const void *data, size_t bytes, size_t piece, char text[65]) {
  edgec_sha256 self;
  uint8_t digest[32];
  edgec_sha256_start(&self);
  for (size_t at = 0; at < bytes; at += piece) {
    edgec_sha256_add(&self, (const char *)data + at, bytes - at < piece ? bytes - at : piece);
  }
  edgec_sha256_end(&self, digest);
  for (int i = 0; i < 32; i++) snprintf(text + 2 * i, 3, "%02x", digest[i]);
}

static void expect_hash(const char *message, const char *digest) {
  for (size_t piece = 1; piece <= strlen(message) + 1; piece++) {
    char text[65];
    hash(message, strlen(message), piece, text);
    EXPECT(strcmp(text, digest) == 0);
  }
}

static void hashes_examples(void) {
  expect_hash("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  expect_hash("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  expect_hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

static void hashes_a_million_letters(void) {
  char text[65], *letters = malloc(1000000);
  EXPECT(letters);
  memset(letters, 'a', 1000000);
  hash(letters, 1000000, 777, text);
  EXPECT(!strcmp(text, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"));
  free(letters);
}

/* Lengths around the ends of blocks, where the padding changes. */
static void pieces_change_nothing(void) {
  char data[200], whole[65], parts[65];
  for (size_t i = 0; i < sizeof data; i++) data[i] = (char)(i * 7 + 3);
  for (size_t length = 0; length <= sizeof data; length++) {
    hash(data, length, sizeof data, whole);
    hash(data, length, 13, parts);
    EXPECT(!strcmp(whole, parts));
  }
}

int main(void) {
  RUN(hashes_examples);
  RUN(hashes_a_million_letters);
  RUN(pieces_change_nothing);
  return 0;
}
