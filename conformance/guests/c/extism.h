/* What an Extism host offers to a plugin, for plugins in C without a libc.
 *
 * Input, output, errors and messages travel through the host's own memory ("Extism memory"). A plugin cannot map that
 * memory: it names a block by a handle and copies 8 bytes or 1 byte per call. Handle 0 means "no block", which is also
 * what an empty text looks like.
 *
 * An export that the host can call has the shape
 *
 *     EXTISM_EXPORT("name") int32_t name(void) { ... return 0; }      0: success, anything else: failure
 */
#ifndef EXTISM_H
#define EXTISM_H

#include <stddef.h>
#include <stdint.h>

#define EXTISM_EXPORT(name) __attribute__((export_name(name)))
#define EXTISM_IMPORT(name) extern __attribute__((import_module("extism:host/env"), import_name(name)))

/* A block of Extism memory. Handle + n is the address of its byte n, for the load and store functions. */
typedef uint64_t extism_handle;

/* ---- The imports. They exist in the binary only if the plugin uses them. ---- */

/* Input of the running call. input_load_u64 gives 0 unless all 8 bytes lie inside the input. */
EXTISM_IMPORT("input_length") uint64_t extism_input_length(void);
EXTISM_IMPORT("input_load_u8") uint8_t extism_input_load_u8(uint64_t offset);
EXTISM_IMPORT("input_load_u64") uint64_t extism_input_load_u64(uint64_t offset);

/* Blocks. alloc(0) gives handle 0; so does a failed alloc. length(0) is 0. */
EXTISM_IMPORT("alloc") extism_handle extism_alloc(uint64_t size);
EXTISM_IMPORT("free") void extism_free(extism_handle block);
EXTISM_IMPORT("length") uint64_t extism_length(extism_handle block);

/* Bytes of blocks. Addresses need no alignment; multi-byte values are little-endian. */
EXTISM_IMPORT("load_u8") uint8_t extism_load_u8(uint64_t address);
EXTISM_IMPORT("load_u64") uint64_t extism_load_u64(uint64_t address);
EXTISM_IMPORT("store_u8") void extism_store_u8(uint64_t address, uint8_t value);
EXTISM_IMPORT("store_u64") void extism_store_u64(uint64_t address, uint64_t value);

/* What the host takes after the call. The blocks must stay allocated. */
EXTISM_IMPORT("output_set") void extism_output_set(uint64_t address, uint64_t size);
EXTISM_IMPORT("error_set") void extism_error_set(extism_handle message);

/* Config and variables: 0 if the key is absent (or its value is empty). The host frees the handles passed in;
   a handle that comes back belongs to the plugin. var_set with value 0 removes the variable. */
EXTISM_IMPORT("config_get") extism_handle extism_config_get(extism_handle key);
EXTISM_IMPORT("var_get") extism_handle extism_var_get(extism_handle key);
EXTISM_IMPORT("var_set") void extism_var_set(extism_handle key, extism_handle value);

/* Logging. The message is UTF-8; the host frees it. */
EXTISM_IMPORT("log_info") void extism_log_info(extism_handle message);

/* ---- Copying, 8 bytes at a time and the rest bytewise. ---- */

/* Copies the whole input to `address` in Extism memory. */
static inline void extism_copy_input(uint64_t address) {
    const uint64_t size = extism_input_length();
    uint64_t i = 0;
    for (; i + 8 <= size; i += 8) extism_store_u64(address + i, extism_input_load_u64(i));
    for (; i < size; i++) extism_store_u8(address + i, extism_input_load_u8(i));
}

/* Copies `size` bytes of the plugin's own memory to `address` in Extism memory. */
static inline void extism_store(uint64_t address, const char *bytes, size_t size) {
    size_t i = 0;
    for (; i + 8 <= size; i += 8) {
        uint64_t word;
        __builtin_memcpy(&word, bytes + i, sizeof word);
        extism_store_u64(address + i, word);
    }
    for (; i < size; i++) extism_store_u8(address + i, (uint8_t)bytes[i]);
}

/* Copies `size` bytes from `address` in Extism memory to the plugin's own memory. */
static inline void extism_load(char *bytes, uint64_t address, size_t size) {
    size_t i = 0;
    for (; i + 8 <= size; i += 8) {
        const uint64_t word = extism_load_u64(address + i);
        __builtin_memcpy(bytes + i, &word, sizeof word);
    }
    for (; i < size; i++) bytes[i] = (char)extism_load_u8(address + i);
}

/* Copies `size` bytes from one place of Extism memory to another. */
static inline void extism_copy(uint64_t to, uint64_t from, uint64_t size) {
    uint64_t i = 0;
    for (; i + 8 <= size; i += 8) extism_store_u64(to + i, extism_load_u64(from + i));
    for (; i < size; i++) extism_store_u8(to + i, extism_load_u8(from + i));
}

/* A new block with these bytes; 0 for no bytes. */
static inline extism_handle extism_block(const char *bytes, size_t size) {
    const extism_handle block = extism_alloc(size);
    extism_store(block, bytes, size);
    return block;
}

/* A new block with a string literal, for keys: EXTISM_TEXT("total"). */
#define EXTISM_TEXT(literal) extism_block((literal), sizeof(literal) - 1)

#endif
