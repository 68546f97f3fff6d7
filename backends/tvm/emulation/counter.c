/* A plugin for qemu-user: how often every block of instructions ran.
 *
 *   qemu-aarch64 -plugin counter.so,out=FILE ...
 *
 * writes a line per block: its instructions, how often it ran, and its bytes in hexadecimal. qemu's
 * packages bring no header, so its functions are declared here (QEMU, "TCG Plugins", version 1).
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
enum { ADD = 0, BYTES_OF_INSTRUCTION = 4 };

typedef uint64_t Id;
typedef struct qemu_plugin_tb Translated;
typedef struct qemu_plugin_insn Instruction;
void qemu_plugin_register_vcpu_tb_trans_cb(Id, void (*)(Id, Translated *));
void qemu_plugin_register_vcpu_tb_exec_inline(Translated *, int, void *, uint64_t);
void qemu_plugin_register_atexit_cb(Id, void (*)(Id, void *), void *);
size_t qemu_plugin_tb_n_insns(const Translated *);
Instruction *qemu_plugin_tb_get_insn(const Translated *, size_t);
const void *qemu_plugin_insn_data(const Instruction *);
size_t qemu_plugin_insn_size(const Instruction *);

EXPORT int qemu_plugin_version = 1;

typedef struct Block {
  struct Block *next;
  uint64_t runs;
  size_t instructions, bytes;
  unsigned char code[];
} Block;

static Block *blocks;
static char *path;

static void add(Id id, Translated *translated) {
  (void)id;
  size_t count = qemu_plugin_tb_n_insns(translated);
  Block *block = calloc(1, sizeof *block + BYTES_OF_INSTRUCTION * count);
  if (block == NULL) abort();
  block->instructions = count;
  for (size_t i = 0; i < count; i++) {
    const Instruction *one = qemu_plugin_tb_get_insn(translated, i);
    size_t size = qemu_plugin_insn_size(one);
    memcpy(block->code + block->bytes, qemu_plugin_insn_data(one), size);
    block->bytes += size;
  }
  block->next = blocks; /* qemu translates under a lock */
  blocks = block;
  qemu_plugin_register_vcpu_tb_exec_inline(translated, ADD, &block->runs, 1);
}

static void finish(Id id, void *unused) {
  (void)id, (void)unused;
  FILE *file = fopen(path, "w");
  if (file == NULL) {
    perror(path);
    return;
  }
  for (const Block *block = blocks; block; block = block->next) {
    if (!block->runs) continue;
    fprintf(file, "%zu %llu ", block->instructions, (unsigned long long)block->runs);
    for (size_t i = 0; i < block->bytes; i++) fprintf(file, "%02x", block->code[i]);
    fputc('\n', file);
  }
  fclose(file);
}

EXPORT int qemu_plugin_install(Id id, const void *info, int count, char **words) {
  (void)info;
  if (count != 1 || strncmp(words[0], "out=", 4)) return -1;
  path = strdup(words[0] + 4);
  qemu_plugin_register_vcpu_tb_trans_cb(id, add);
  qemu_plugin_register_atexit_cb(id, finish, NULL);
  return 0;
}
