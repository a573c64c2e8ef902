/* The check program's way into a shared library for Linux that it loads by itself: a static program
 * under qemu needs neither a dynamic linker nor a C library of the other machine. What executes is
 * the library as it ships; the functions of libc and libm that it asks for are those of this
 * program. `edgec_imports`, written for each library, lists them.
 *
 * The files of check/ are compiled with the names below in place of the runtime's. */
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "edgec/runtime.h"

typedef struct edgec_import {
  const char *name;
  void *address;
} edgec_import;
extern const edgec_import edgec_imports[];

static unsigned char *base; /* address of the library's zero */
static const Elf64_Sym *symbols;
static size_t n_symbols;
static const char *names;

static void stop(const char *path, const char *what, unsigned long number) {
  fprintf(stderr, "EDGEC_CANNOT_OPEN: [%s] got %s %lu; need a library of edgec for aarch64\n", path,
          what, number);
  exit(2);
}

static unsigned char *read_file(const char *path, size_t *size) {
  FILE *file = path ? fopen(path, "rb") : NULL;
  if (!file || fseek(file, 0, SEEK_END)) stop(path ? path : "EDGEC_LIBRARY", "no file", 0);
  *size = (size_t)ftell(file);
  rewind(file);
  unsigned char *content = malloc(*size);
  if (!content || fread(content, 1, *size, file) != *size) stop(path, "an unreadable file", 0);
  fclose(file);
  return content;
}

/* Copy the segments to their places; all memory is writable until the end. */
static void place(const unsigned char *file) {
  const Elf64_Ehdr *header = (const void *)file;
  const Elf64_Phdr *segments = (const void *)(file + header->e_phoff);
  size_t end = 0, align = 1;
  for (int i = 0; i < header->e_phnum; i++) {
    if (segments[i].p_type != PT_LOAD) continue;
    if (segments[i].p_vaddr + segments[i].p_memsz > end) {
      end = segments[i].p_vaddr + segments[i].p_memsz;
    }
    if (segments[i].p_align > align) align = segments[i].p_align;
  }
  void *room = mmap(NULL, end + align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) stop("mmap", "no memory for bytes", end);
  base = (unsigned char *)(((uintptr_t)room + align - 1) / align * align);
  for (int i = 0; i < header->e_phnum; i++) {
    if (segments[i].p_type != PT_LOAD) continue;
    memcpy(base + segments[i].p_vaddr, file + segments[i].p_offset, segments[i].p_filesz);
  }
}

static void find_symbols(const unsigned char *file) {
  const Elf64_Ehdr *header = (const void *)file;
  const Elf64_Shdr *sections = (const void *)(file + header->e_shoff);
  for (int i = 0; i < header->e_shnum; i++) {
    if (sections[i].sh_type != SHT_DYNSYM) continue;
    symbols = (const void *)(base + sections[i].sh_addr);
    n_symbols = sections[i].sh_size / sizeof *symbols;
    names = (const char *)base + sections[sections[i].sh_link].sh_addr;
  }
}

static void *address_of(const char *path, size_t index) {
  const Elf64_Sym *symbol = &symbols[index];
  if (symbol->st_shndx != SHN_UNDEF) return base + symbol->st_value;
  for (const edgec_import *known = edgec_imports; known->name; known++) {
    if (!strcmp(known->name, names + symbol->st_name)) return known->address;
  }
  if (ELF64_ST_BIND(symbol->st_info) != STB_WEAK) stop(path, names + symbol->st_name, 0);
  return NULL;
}

static void relocate(const char *path, const unsigned char *file) {
  const Elf64_Ehdr *header = (const void *)file;
  const Elf64_Shdr *sections = (const void *)(file + header->e_shoff);
  for (int i = 0; i < header->e_shnum; i++) {
    if (sections[i].sh_type != SHT_RELA) continue;
    const Elf64_Rela *entries = (const void *)(base + sections[i].sh_addr);
    for (size_t j = 0; j < sections[i].sh_size / sizeof *entries; j++) {
      void **where = (void **)(base + entries[j].r_offset);
      unsigned long type = ELF64_R_TYPE(entries[j].r_info);
      if (type == R_AARCH64_RELATIVE) {
        *where = base + entries[j].r_addend;
      } else if (type == R_AARCH64_GLOB_DAT || type == R_AARCH64_JUMP_SLOT ||
                 type == R_AARCH64_ABS64) {
        unsigned char *target = address_of(path, ELF64_R_SYM(entries[j].r_info));
        *where = target ? target + entries[j].r_addend : NULL;
      } else {
        stop(path, "relocation", type);
      }
    }
  }
}

/* Make code executable and run what the library asks for at its start. */
static void start(const unsigned char *file) {
  const Elf64_Ehdr *header = (const void *)file;
  const Elf64_Phdr *segments = (const void *)(file + header->e_phoff);
  const Elf64_Shdr *sections = (const void *)(file + header->e_shoff);
  for (int i = 0; i < header->e_phnum; i++) {
    if (segments[i].p_type != PT_LOAD || !(segments[i].p_flags & PF_X)) continue;
    unsigned char *first = base + segments[i].p_vaddr / 4096 * 4096;
    unsigned char *end = base + segments[i].p_vaddr + segments[i].p_memsz;
    mprotect(first, (size_t)(end - first), PROT_READ | PROT_EXEC);
    __builtin___clear_cache((char *)first, (char *)end);
  }
  for (int i = 0; i < header->e_shnum; i++) {
    if (sections[i].sh_type != SHT_INIT_ARRAY) continue;
    void (**functions)(void) = (void (**)(void))(base + sections[i].sh_addr);
    for (size_t j = 0; j < sections[i].sh_size / sizeof *functions; j++) functions[j]();
  }
}

static void load(void) {
  const char *path = getenv("EDGEC_LIBRARY");
  size_t size;
  unsigned char *file = read_file(path, &size);
  const Elf64_Ehdr *header = (const void *)file;
  if (size < sizeof *header || memcmp(header->e_ident, ELFMAG, SELFMAG)) stop(path, "no ELF", 0);
  if (header->e_machine != EM_AARCH64) stop(path, "machine", header->e_machine);
  place(file);
  find_symbols(file);
  relocate(path, file);
  start(file);
  free(file);
}

static void *function(const char *name) {
  if (!base) load();
  for (size_t i = 0; i < n_symbols; i++) {
    if (symbols[i].st_shndx != SHN_UNDEF && !strcmp(names + symbols[i].st_name, name)) {
      return base + symbols[i].st_value;
    }
  }
  stop(name, "no such function", 0);
  return NULL;
}

const edgec_model *loaded_model_of(void) {
  return ((const edgec_model *(*)(void))function("edgec_model_of"))();
}

edgec_status loaded_create(const edgec_model *model, const char *path, const edgec_options *options,
                           edgec_instance **out, char *error) {
  edgec_status (*create)(const edgec_model *, const char *, const edgec_options *,
                         edgec_instance **, char *) =
      (edgec_status (*)(const edgec_model *, const char *, const edgec_options *, edgec_instance **,
                        char *))function("edgec_create");
  return create(model, path, options, out, error);
}

edgec_status loaded_call(edgec_instance *self, int32_t index, const int64_t *dims,
                         const void *const *inputs, void *const *outputs) {
  edgec_status (*call)(edgec_instance *, int32_t, const int64_t *, const void *const *,
                       void *const *) =
      (edgec_status (*)(edgec_instance *, int32_t, const int64_t *, const void *const *,
                        void *const *))function("edgec_call");
  return call(self, index, dims, inputs, outputs);
}

void loaded_destroy(edgec_instance *self) {
  ((void (*)(edgec_instance *))function("edgec_destroy"))(self);
}

const char *loaded_last_error(const edgec_instance *self) {
  return ((const char *(*)(const edgec_instance *))function("edgec_last_error"))(self);
}

const char *loaded_variant_of(const edgec_instance *self) {
  return ((const char *(*)(const edgec_instance *))function("edgec_variant_of"))(self);
}

const edgec_profile *loaded_profile_of(const edgec_instance *self) {
  return ((const edgec_profile *(*)(const edgec_instance *))function("edgec_profile_of"))(self);
}
